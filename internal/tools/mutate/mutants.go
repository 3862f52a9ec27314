package main

import (
	"fmt"
	"go/ast"
	"math/rand/v2"
	"slices"
	"strings"
)

// mutant is one planted bug: the bytes [from, to) of a file become with.
type mutant struct {
	file     string // its name in the package's directory
	line     int
	function string
	kind     string
	text     string // what stood there
	from, to int
	with     string
	// nth tells apart what is otherwise named alike.
	nth int
}

// apply returns the mutated source.
func (m mutant) apply(source []byte) []byte {
	return slices.Concat(source[:m.from], []byte(m.with), source[m.to:])
}

// name names a mutant for as long as the code around it stands, wherever in the
// file it comes to stand.
func (m mutant) name() string {
	name := fmt.Sprintf("%s %s %s: %s", m.file, m.function, m.kind, short(m.text))
	if with := short(m.with); with != "" {
		name += " -> " + with
	}
	if m.nth > 0 {
		name += fmt.Sprintf(" (%d)", m.nth+1)
	}
	return name
}

// short is a text in one line.
func short(text string) string {
	const runes = 110
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > runes {
		return string(r[:runes]) + "…"
	}
	return text
}

// mutants lists every mutant of the package, in order of place. Generated files
// are left alone.
func (s *source) mutants() []mutant {
	var all []mutant
	for _, name := range s.names {
		if file := s.files[name]; !ast.IsGenerated(file) {
			f := finder{source: s, file: name, whole: make(map[ast.Expr]bool)}
			f.findIn(file)
			all = append(all, f.found...)
		}
	}
	seen := make(map[string]int)
	for i := range all {
		name := all[i].name()
		all[i].nth = seen[name]
		seen[name]++
	}
	return all
}

// sample orders mutants by chance so that every kind comes up as often as any
// other, while it lasts: conditions negated are the most numerous by far and the
// least like a slip.
func sample(all []mutant, seed uint64) []mutant {
	random := rand.New(rand.NewPCG(seed, 0))
	byKind := make(map[string][]mutant)
	var kinds []string
	for _, m := range all {
		if byKind[m.kind] == nil {
			kinds = append(kinds, m.kind)
		}
		byKind[m.kind] = append(byKind[m.kind], m)
	}
	slices.Sort(kinds)
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, kind := range kinds {
		of := byKind[kind]
		random.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	}
	sampled := make([]mutant, 0, len(all))
	for i := 0; len(sampled) < len(all); i++ {
		for _, kind := range kinds {
			if i < len(byKind[kind]) {
				sampled = append(sampled, byKind[kind][i])
			}
		}
	}
	return sampled
}
