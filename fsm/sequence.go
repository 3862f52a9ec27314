package fsm

import (
	"iter"
	"math"
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
	// dues counts the records with something due.
	dues int
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
	tally   // a pin does not look at it
}

type place struct {
	at   Cursor
	gone bool
}

// find returns the chunk that holds at, or where it belongs.
func (q *sequence) find(at Cursor) int {
	n := len(q.chunks)
	if n == 0 || q.chunks[n-1].last().less(at) {
		return n // most join at the end
	}
	// The first whose last place is not less lies in [low, high]. Most leave near the
	// front: the steps begin there, and double.
	low, high := 0, 0
	for high < n-1 && q.chunks[high].last().less(at) {
		low, high = high+1, 2*high+1
	}
	for high = min(high, n-1); low < high; {
		if middle := (low + high) / 2; q.chunks[middle].last().less(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

func (c *chunk) last() Cursor { return c.places[len(c.places)-1].at }

// find returns the place of at in the chunk, or where it belongs.
func (c *chunk) find(at Cursor) (j int, ok bool) {
	low, high := 0, len(c.places)
	if high == 0 || c.places[high-1].at.less(at) {
		return high, false
	}
	for low < high {
		if middle := (low + high) / 2; c.places[middle].at.less(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, c.places[low].at == at
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
		c = c.clone()
		c.era = q.era
		q.chunks[i] = c
	}
	return c
}

func (c *chunk) clone() *chunk {
	other := *c
	other.places, other.records = slices.Clone(c.places), slices.Clone(c.records)
	return &other
}

// add takes a transaction in. Adding one twice does nothing.
func (q *sequence) add(at Cursor) { q.put(at, nil) }

// put takes a transaction in with its record, or replaces that.
func (q *sequence) put(at Cursor, record *transaction) {
	i := q.find(at)
	if i == len(q.chunks) {
		if i == 0 || len(q.chunks[i-1].places) >= chunkCap {
			q.chunks = append(q.chunks, q.newChunk(record != nil))
		} else {
			i--
		}
	}
	j, ok := q.chunks[i].find(at)
	if ok && !q.chunks[i].places[j].gone && record == nil {
		return
	}
	c := q.own(i)
	if !ok {
		c.places = slices.Insert(c.places, j, place{at: at, gone: true})
		if record != nil || c.records != nil {
			c.records = slices.Insert(c.records, j, record)
		}
	}
	if record != nil {
		if !c.places[j].gone {
			q.left(c, c.records[j])
		}
		c.records[j] = record
		q.joined(c, record)
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

// newChunk makes one for the end. Where there are others it will be filled: it gets
// its memory at once.
func (q *sequence) newChunk(records bool) *chunk {
	c := &chunk{era: q.era, tally: tally{bornMS: noneBornMS}}
	if len(q.chunks) == 0 {
		return c
	}
	c.places = make([]place, 0, chunkCap)
	if records {
		c.records = make([]*transaction, 0, chunkCap)
	}
	return c
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
	c.tally, second.tally = tallyOf(c.records), tallyOf(second.records)
	q.chunks = slices.Insert(q.chunks, i+1, second)
}

// remove takes a transaction out. Removing one that is not there does nothing.
func (q *sequence) remove(at Cursor) {
	i := q.find(at)
	if i == len(q.chunks) {
		return
	}
	j, ok := q.chunks[i].find(at)
	if !ok || q.chunks[i].places[j].gone {
		return
	}
	c := q.own(i)
	c.places[j].gone = true
	if c.records != nil {
		q.left(c, c.records[j])
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
				if !p.gone && from.less(p.at) && !yield(p.at) {
					return
				}
			}
		}
	}
}

// all walks the whole sequence, in order.
func (q *sequence) all() iter.Seq[Cursor] { return q.after(Cursor{}) }

// noneBornMS is later than any GID is born.
const noneBornMS = math.MaxUint64
