package search

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// A leader may pack what several branches report into one entry, in one command.

// word is what one branch says in it.
type word uint8

const (
	wordNone word = iota
	wordCommitted
	wordRolledBack
	wordCount
)

// words are what all branches say in it, by their places.
type words [branchesMax]word

// packedCount is how many packed commands are numbered.
const packedCount = int(wordCount) * int(wordCount) * int(wordCount)

// packed is the command that says so: a number to the base of wordCount.
func packed(said words) command {
	n := 0
	for b := branchesMax - 1; b >= 0; b-- {
		n = n*int(wordCount) + int(said[b])
	}
	return cmdPacked + command(n)
}

// words of a packed command; ok is false for any other.
func (c command) words() (said words, ok bool) {
	if c < cmdPacked {
		return said, false
	}
	for b, n := 0, int(c-cmdPacked); b < branchesMax; b, n = b+1, n/int(wordCount) {
		said[b] = word(n % int(wordCount))
	}
	return said, true
}

// single is the command that one word alone would be.
func (s word) single(b int) command {
	if s == wordCommitted {
		return cmdCommitted + command(b)
	}
	return cmdRolledBack + command(b)
}

// eachPacked gives every choice of words of at least two branches.
func eachPacked(branches int, yield func(words)) {
	for n := range packedCount {
		said, _ := (cmdPacked + command(n)).words()
		count, in := 0, true
		for b, s := range said {
			if s != wordNone {
				count++
				in = in && b < branches
			}
		}
		if count > 1 && in {
			yield(said)
		}
	}
}

// packs are the packed commands of a world's alphabet.
func packs(c Config, letters *[letterCount]*logpb.Command) {
	eachPacked(c.Branches, func(said words) {
		reports := &logpb.Reports{Gid: theGID.Bytes()}
		for b, s := range said {
			switch s {
			case wordCommitted:
				reports.Reports = append(reports.Reports, &logpb.Report{Branch: branchID(b), Outcome: logpb.Outcome_OUTCOME_COMMITTED})
			case wordRolledBack:
				reports.Reports = append(reports.Reports, &logpb.Report{Branch: branchID(b), Outcome: logpb.Outcome_OUTCOME_ROLLED_BACK})
			}
		}
		letters[packed(said)] = &logpb.Command{Kind: &logpb.Command_Reports{Reports: reports}}
	})
}

// packSteps lets a leader that several branches' reports have reached append them
// packed.
func (m *model) packSteps(w *world, yield func(step, world)) {
	for k := range m.Nodes {
		n := &w.nodes[k]
		if n.role != serving || n.behind || !m.room(n) {
			continue
		}
		eachPacked(m.Branches, func(said words) {
			next := *w
			for b, s := range said {
				if s == wordNone {
					continue
				}
				if !w.net.has(int(s.single(b))) {
					return
				}
				next.net.take(int(s.single(b)))
			}
			if c := packed(said); m.matters(w, n, c) {
				m.append(&next, k, c)
				yield(step{doPack, uint8(k), uint8(c)}, next)
			}
		})
	}
}

// answerPacked answers each branch by its own part of the result.
func (m *model) answerPacked(w *world, at uint32, said words, r fsm.Result) {
	parts := r.Parts
	for b, s := range said {
		if s != wordNone && len(parts) > 0 {
			m.answer(w, at, s.single(b), parts[0])
			parts = parts[1:]
		}
	}
}
