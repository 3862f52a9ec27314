package fsm

import (
	"iter"
	"slices"
)

// chunkCap is how many places a chunk of a sequence holds before the next one
// opens.
const chunkCap = 256

// sequence keeps transactions in their stable order: begin index, then GID.
// They join near its end and leave anywhere. Places are kept in chunks, and a
// chunk goes when nothing in it is left, so that no step ever moves or
// visits all of it. A cursor stays good whatever leaves.
type sequence struct {
	chunks []*chunk
	count  int
}

// chunk holds places in order; some of them may be empty again.
type chunk struct {
	places []place
	live   int
}

type place struct {
	at   Cursor
	gone bool
}

func comparePlace(p place, at Cursor) int { return p.at.compare(at) }

// find returns the chunk that holds at, or where it belongs.
func (q *sequence) find(at Cursor) int {
	i, _ := slices.BinarySearchFunc(q.chunks, at, func(c *chunk, at Cursor) int {
		return c.places[len(c.places)-1].at.compare(at)
	})
	return i
}

// add takes a transaction in. Adding one twice does nothing.
func (q *sequence) add(at Cursor) {
	i := q.find(at)
	if i == len(q.chunks) {
		if i == 0 || len(q.chunks[i-1].places) >= chunkCap {
			q.chunks = append(q.chunks, new(chunk))
		} else {
			i--
		}
	}
	c := q.chunks[i]
	j, ok := slices.BinarySearchFunc(c.places, at, comparePlace)
	switch {
	case !ok:
		c.places = slices.Insert(c.places, j, place{at: at})
	case c.places[j].gone:
		c.places[j].gone = false
	default:
		return
	}
	c.live++
	q.count++
	if len(c.places) > 2*chunkCap {
		q.split(i)
	}
}

// split makes two of a chunk that has grown too long, by transactions that joined far
// behind the end, and lets go of its empty places.
func (q *sequence) split(i int) {
	c := q.chunks[i]
	left := slices.DeleteFunc(c.places, func(p place) bool { return p.gone })
	if len(left) <= chunkCap {
		c.places = left
		return
	}
	half := len(left) / 2
	second := &chunk{places: slices.Clone(left[half:]), live: len(left) - half}
	c.places, c.live = left[:half:half], half
	q.chunks = slices.Insert(q.chunks, i+1, second)
}

// remove takes a transaction out. Removing one that is not there does nothing.
func (q *sequence) remove(at Cursor) {
	i := q.find(at)
	if i == len(q.chunks) {
		return
	}
	c := q.chunks[i]
	j, ok := slices.BinarySearchFunc(c.places, at, comparePlace)
	if !ok || c.places[j].gone {
		return
	}
	c.places[j].gone = true
	c.live--
	q.count--
	if c.live == 0 {
		q.chunks = slices.Delete(q.chunks, i, i+1)
	}
}

// after walks what stands after a cursor, in order.
func (q *sequence) after(from Cursor) iter.Seq[Cursor] {
	return func(yield func(Cursor) bool) {
		for i := q.find(from); i < len(q.chunks); i++ {
			for _, p := range q.chunks[i].places {
				if !p.gone && p.at.compare(from) > 0 && !yield(p.at) {
					return
				}
			}
		}
	}
}

// all walks the whole sequence, in order.
func (q *sequence) all() iter.Seq[Cursor] { return q.after(Cursor{}) }
