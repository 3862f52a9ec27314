package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// stage is one run of tests against a mutant.
type stage struct {
	name   string
	dir    string
	binary string
	args   []string
	usual  time.Duration
}

// judge runs tests against one mutant, those first that come to its line and
// are quick, until some are red and red again.
func (b *bench) judge(m mutant, all []reach) (result, error) {
	r := result{Name: m.name(), Line: m.line, Source: b.source.line(m)}
	b.hold()
	binary, err := b.build(b.source.dir, "mutant", &m)
	if err != nil {
		return r, err
	}
	near := reaching(all, m)
	quick, slow := split(near, b.quick)
	if r.Reaching = len(near); r.Reaching == 0 {
		r.Tried = append(r.Tried, "no test reaches it")
	}
	own := stage{dir: b.source.dir, binary: binary}
	for _, some := range [][]reach{quick, slow} {
		own.name, own.args, own.usual = fmt.Sprintf("%d tests that reach it", len(some)), b.ownArgs("-test.run="+named(some)), sum(some)
		if len(some) > 0 && b.notices(own, &r) {
			return r, nil
		}
	}
	if b.whole {
		own.name, own.args, own.usual = "the package's other tests", b.ownArgs("-test.skip="+named(near)), sum(all)-sum(near)
		if len(near) == 0 {
			own.args = b.ownArgs("-test.run=.")
		}
		if b.notices(own, &r) {
			return r, nil
		}
	}
	for _, suite := range b.also {
		usual, err := b.usually(suite)
		if err != nil {
			return r, err
		}
		binary, err := b.build(suite.dir, "suite", &m)
		if err != nil {
			return r, err
		}
		if b.notices(stage{suite.name, suite.dir, binary, suite.args, usual}, &r) {
			return r, nil
		}
	}
	return r, nil
}

// ownArgs are the arguments for the package's own tests.
func (b *bench) ownArgs(which string) []string {
	args := append([]string{which}, b.flags...)
	if strings.HasPrefix(which, "-test.skip=") {
		if b.skip.String() != none {
			args[0] += "|" + b.skip.String()
		}
		return args
	}
	return append(args, "-test.skip="+b.skip.String())
}

// notices runs a stage and writes down what it said. What is red once must be red
// again, and green without the mutant: on a busy machine some tests are red by
// chance, and what they noticed was not the mutant.
func (b *bench) notices(s stage, r *result) bool {
	const again = 2
	b.hold()
	v := b.execute(s.binary, s.dir, b.limit(s.usual), s.args...)
	if !v.red {
		r.Tried = append(r.Tried, s.name)
		return false
	}
	r.Seconds, r.Killer = v.took.Seconds(), v.sign
	if s.dir != b.source.dir {
		r.Killer = s.name + ": " + v.sign
	}
	test := strings.TrimPrefix(v.sign, hung+" in ")
	if !strings.HasPrefix(test, "Test") {
		return true // a panic, or a leak after all tests
	}
	alone := append(append([]string{}, s.args...), "-test.run=^"+test+"$")
	for range again {
		if b.execute(s.binary, s.dir, b.limit(v.took), alone...).red {
			return !b.redAnyway(s, test, r)
		}
	}
	r.Tried = append(r.Tried, fmt.Sprintf("%s, where %s was red 1 time of %d", s.name, test, 1+again))
	r.Killer, r.Seconds = "", 0
	return false
}

// redAnyway says that a test is red without a mutant as well.
func (b *bench) redAnyway(s stage, test string, r *result) bool {
	clean, err := b.buildClean(s.dir)
	if err == nil && !b.execute(clean, s.dir, b.limit(s.usual), append(append([]string{}, s.args...), "-test.run=^"+test+"$")...).red {
		return false
	}
	r.Tried = append(r.Tried, fmt.Sprintf("%s, where %s is red without the mutant", s.name, test))
	r.Killer, r.Seconds = "", 0
	return true
}

// suite is a way to run the tests of another package.
type suite struct {
	name, dir string
	args      []string
}

// parseSuites reads "dir flags; dir flags".
func parseSuites(text string) []suite {
	var all []suite
	for one := range strings.SplitSeq(text, ";") {
		if words := strings.Fields(one); len(words) > 0 {
			all = append(all, suite{name: strings.Join(words, " "), dir: words[0], args: words[1:]})
		}
	}
	return all
}

// usually is how long a suite takes without a mutant. It must be green.
func (b *bench) usually(s suite) (time.Duration, error) {
	if took, ok := b.usual[s.name]; ok {
		return took, nil
	}
	binary, err := b.buildClean(s.dir)
	if err != nil {
		return 0, err
	}
	b.hold()
	v := b.execute(binary, s.dir, b.limit(5*time.Minute), s.args...)
	if v.red {
		return 0, fmt.Errorf("%s is red without a mutant: %s", s.name, v.sign)
	}
	b.usual[s.name] = v.took
	return v.took, nil
}

// named is the regular expression of some tests' names.
func named(some []reach) string {
	names := make([]string, len(some))
	for i, r := range some {
		names[i] = regexp.QuoteMeta(r.Test)
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

func sum(some []reach) time.Duration {
	var seconds float64
	for _, r := range some {
		seconds += r.Seconds
	}
	return time.Duration(seconds * float64(time.Second))
}

// split takes those that together take no longer than quick.
func split(near []reach, quick time.Duration) (first, rest []reach) {
	for i := range near {
		if sum(near[:i+1]) > quick {
			return near[:i], near[i:]
		}
	}
	return near, nil
}

// unbuildable says that an error is that of a mutant which does not compile.
func unbuildable(err error) bool { return errors.Is(err, errUnbuildable) }
