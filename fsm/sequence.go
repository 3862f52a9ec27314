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
	// era is how often the sequence was pinned: a chunk of an earlier one is shared
	// with a pin, and is copied before it changes.
	era uint64
}

// chunk holds places in order; some of them may be empty again.
type chunk struct {
	places []place
	// records are what stands at the places, in a sequence that keeps them; else nil.
	records []*transaction
	live    int
	era     uint64
}

type place struct {
	at   Cursor
	gone bool
}

func comparePlace(p place, at Cursor) int { return p.at.compare(at) }

// find returns the chunk that holds at, or where it belongs.
func (q *sequence) find(at Cursor) int {
	n := len(q.chunks)
	if n == 0 {
		return 0
	}
	if last := q.chunks[n-1]; last.places[len(last.places)-1].at.compare(at) < 0 {
		return n // most join at the end
	}
	i, _ := slices.BinarySearchFunc(q.chunks, at, func(c *chunk, at Cursor) int {
		return c.places[len(c.places)-1].at.compare(at)
	})
	return i
}

// pin returns the chunks as they are now, and will stay. It costs a word for each.
func (q *sequence) pin() []*chunk {
	q.era++
	return slices.Clone(q.chunks)
}

// own returns a chunk that may be changed: a copy of one that a pin shares.
func (q *sequence) own(i int) *chunk {
	c := q.chunks[i]
	if c.era != q.era {
		c = &chunk{places: slices.Clone(c.places), records: slices.Clone(c.records), live: c.live, era: q.era}
		q.chunks[i] = c
	}
	return c
}

// add takes a transaction in. Adding one twice does nothing.
func (q *sequence) add(at Cursor) { q.put(at, nil) }

// put takes a transaction in with its record, or replaces that.
func (q *sequence) put(at Cursor, record *transaction) {
	i := q.find(at)
	if i == len(q.chunks) {
		if i == 0 || len(q.chunks[i-1].places) >= chunkCap {
			q.chunks = append(q.chunks, &chunk{era: q.era})
		} else {
			i--
		}
	}
	c := q.chunks[i]
	j, ok := slices.BinarySearchFunc(c.places, at, comparePlace)
	if ok && !c.places[j].gone && record == nil {
		return
	}
	c = q.own(i)
	if !ok {
		c.places = slices.Insert(c.places, j, place{at: at, gone: true})
		if record != nil || c.records != nil {
			c.records = slices.Insert(c.records, j, record)
		}
	}
	if record != nil {
		c.records[j] = record
	}
	if !c.places[j].gone {
		return
	}
	c.places[j].gone = false
	c.live++
	q.count++
	if len(c.places) > 2*chunkCap {
		q.split(i)
	}
}

// split makes two of a chunk that has grown too long, by transactions that joined far
// behind the end, and lets go of its empty places.
func (q *sequence) split(i int) {
	c := q.own(i)
	left, records := c.places[:0], c.records[:0]
	for j, p := range c.places {
		if p.gone {
			continue
		}
		left = append(left, p)
		if c.records != nil {
			records = append(records, c.records[j])
		}
	}
	clear(c.records[len(records):])
	c.places, c.records = left, records
	if len(left) <= chunkCap {
		return
	}
	half := len(left) / 2
	second := &chunk{places: slices.Clone(left[half:]), live: len(left) - half, era: q.era}
	c.places, c.live = left[:half:half], half
	if len(records) > 0 {
		second.records, c.records = slices.Clone(records[half:]), slices.Clone(records[:half])
	}
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
	c = q.own(i)
	c.places[j].gone = true
	if c.records != nil {
		c.records[j] = nil
	}
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
