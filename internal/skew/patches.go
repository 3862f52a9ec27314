package skew

// change replaces old, which a file must hold so many times, by new.
type change struct {
	old, new string
	times    int
}

// patches are the changes of package time, by file. Whatever reads a clock there
// reads the skewed one; whatever waits for a span waits for it by that clock.
var patches = map[string][]change{
	"sleep.go": {
		{"t := runtimeNano() + int64(d)", "t := runtimeNano() + skewedSpan(int64(d))", 1},
	},
	"tick.go": {
		{"newTimer(when(d), int64(d), sendTime", "newTimer(when(d), skewedSpan(int64(d)), sendTime", 1},
		{"when(d), int64(d))", "when(d), skewedSpan(int64(d)))", 1},
	},
	"time.go": {
		{"\t\"math/bits\"\n", "\t\"math/bits\"\n\t\"syscall\"\n", 1},
		{"subMono(runtimeNano()-startNano, t.ext)", "subMono(skewedNano()-startNano, t.ext)", 1},
		{"subMono(t.ext, runtimeNano()-startNano)", "subMono(t.ext, skewedNano()-startNano)", 1},
		{"func Now() Time {\n\tsec, nsec, mono := runtimeNow()", added + "func Now() Time {\n\tsec, nsec, mono := skewedNow()", 1},
	},
}

// added is the skewed clock. It stands in package time, where little can be
// imported and nothing may call for the time. MARKER is put in by Overlay.
const added = `func skewedNow() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = runtimeNow()
	if !skewed.on {
		return
	}
	elapsed := mono - skewed.from
	wall := int64(nsec) + elapsed*(skewed.rate-100)/100
	for _, j := range skewed.jumps {
		if elapsed >= j[1] {
			wall += j[0]
		}
	}
	sec += wall / 1e9
	if wall %= 1e9; wall < 0 {
		wall += 1e9
		sec--
	}
	return sec, int32(wall), skewedNano()
}

// skewedNano is the monotonic clock.
func skewedNano() int64 {
	now := runtimeNano()
	if !skewed.on {
		return now
	}
	return skewed.from + (now-skewed.from)*skewed.rate/100
}

// skewedSpan is how long a span by the skewed clock lasts in truth.
func skewedSpan(d int64) int64 {
	if !skewed.on || d > 1<<55 {
		return d
	}
	return d * 100 / skewed.rate
}

var skewed = readSkew()

type skew struct {
	on     bool
	rate   int64      // hundredths
	from   int64      // when the program started
	jumps  [][2]int64 // by, after
	marker string
}

func readSkew() (s skew) {
	text, found := syscall.Getenv("QUORATE_TEST_CLOCK")
	if !found || text == "" {
		return s
	}
	s = skew{on: true, rate: 100, from: runtimeNano(), marker: "MARKER"}
	for text != "" {
		word := text
		text = ""
		for i := 0; i < len(word); i++ {
			if word[i] == ' ' {
				word, text = word[:i], word[i+1:]
				break
			}
		}
		switch {
		case len(word) > 5 && word[:5] == "rate=":
			s.rate, _ = skewNumber(word[5:])
		case len(word) > 5 && word[:5] == "jump=":
			by, rest := skewNumber(word[5:])
			if len(rest) < 2 || rest[0] != '@' {
				panic("QUORATE_TEST_CLOCK: want jump=BY@AFTER in nanoseconds, not " + word)
			}
			after, _ := skewNumber(rest[1:])
			s.jumps = append(s.jumps, [2]int64{by, after})
		default:
			panic("QUORATE_TEST_CLOCK: want rate=HUNDREDTHS or jump=BY@AFTER, not " + word)
		}
	}
	if s.rate <= 0 {
		panic("QUORATE_TEST_CLOCK: a clock that stands still")
	}
	return s
}

func skewNumber(text string) (n int64, rest string) {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	for text != "" && '0' <= text[0] && text[0] <= '9' {
		n = n*10 + int64(text[0]-'0')
		text = text[1:]
	}
	if negative {
		n = -n
	}
	return n, text
}

// Now returns the current local time.
`
