package fsm

import "encoding/binary"

// heapKey orders a heap totally: first by time, then by begin index, then by
// GID, so that every node takes the same element next.
type heapKey struct {
	timeMS uint64
	order  Cursor
}

func (a heapKey) less(b heapKey) bool {
	if a.timeMS != b.timeMS {
		return a.timeMS < b.timeMS
	}
	return a.order.less(b.order)
}

// heap is a binary heap of transactions that can drop any of them by its GID.
type heap struct {
	items []heapKey
	place map[GID]int
}

func newHeap() heap { return heap{place: make(map[GID]int)} }

func (h *heap) len() int { return len(h.items) }

// first is the smallest key.
func (h *heap) first() (heapKey, bool) {
	if len(h.items) == 0 {
		return heapKey{}, false
	}
	return h.items[0], true
}

// put adds a transaction, or moves it to another time.
func (h *heap) put(k heapKey) {
	i, ok := h.place[k.order.GID]
	if !ok {
		i = len(h.items)
		h.items = append(h.items, k)
		h.place[k.order.GID] = i
	}
	h.items[i] = k
	h.settle(i)
}

// remove drops a transaction; it does nothing for one that is not there.
func (h *heap) remove(gid GID) {
	i, ok := h.place[gid]
	if !ok {
		return
	}
	last := len(h.items) - 1
	h.swap(i, last)
	h.items = h.items[:last]
	delete(h.place, gid)
	if i < last {
		h.settle(i)
	}
}

// settle moves the key at i to where it belongs.
func (h *heap) settle(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].less(h.items[parent]) {
			break
		}
		h.swap(i, parent)
		i = parent
	}
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return
		}
		if right := child + 1; right < len(h.items) && h.items[right].less(h.items[child]) {
			child = right
		}
		if !h.items[child].less(h.items[i]) {
			return
		}
		h.swap(i, child)
		i = child
	}
}

func (h *heap) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.place[h.items[i].order.GID] = i
	h.place[h.items[j].order.GID] = j
}

// compare orders cursors by begin index, then by GID: several transactions may
// begin in one entry.
func (c Cursor) compare(d Cursor) int {
	switch {
	case c.less(d):
		return -1
	case c == d:
		return 0
	default:
		return 1
	}
}

func (c Cursor) less(d Cursor) bool {
	if c.Index != d.Index {
		return c.Index < d.Index
	}
	if a, b := binary.BigEndian.Uint64(c.GID[:8]), binary.BigEndian.Uint64(d.GID[:8]); a != b {
		return a < b
	}
	return binary.BigEndian.Uint64(c.GID[8:]) < binary.BigEndian.Uint64(d.GID[8:])
}
