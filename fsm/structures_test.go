package fsm

import (
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func cursor(t *rapid.T, indexes uint64) Cursor {
	return Cursor{
		Index: rapid.Uint64Range(1, indexes).Draw(t, "index"),
		GID:   testGID(1, rapid.Uint64Range(0, 5).Draw(t, "gid")),
	}
}

// The sequence is a sorted set, however chunks come and go.
func TestSequenceIsASortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q sequence
		model := map[Cursor]bool{}
		next := uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"append many": func(t *rapid.T) {
				for range rapid.IntRange(1, 2*chunkCap).Draw(t, "n") {
					next++
					c := Cursor{Index: next}
					q.add(c)
					model[c] = true
				}
			},
			"add":    func(t *rapid.T) { c := cursor(t, next+3); q.add(c); model[c] = true },
			"remove": func(t *rapid.T) { c := cursor(t, next+3); q.remove(c); delete(model, c) },
			"remove some": func(t *rapid.T) {
				from := rapid.Uint64Range(1, next).Draw(t, "from")
				for i := range rapid.Uint64Range(1, 2*chunkCap).Draw(t, "n") {
					c := Cursor{Index: from + i}
					q.remove(c)
					delete(model, c)
				}
			},
			"": func(t *rapid.T) {
				want := []Cursor{}
				for c := range model {
					want = append(want, c)
				}
				slices.SortFunc(want, Cursor.compare)
				if got := append([]Cursor{}, slices.Collect(q.all())...); !slices.Equal(got, want) || q.count != len(want) {
					t.Fatalf("%d (counted %d), want %d", len(got), q.count, len(want))
				}
				from := cursor(t, next+3)
				i, found := slices.BinarySearchFunc(want, from, Cursor.compare)
				if found {
					i++
				}
				if got := append([]Cursor{}, slices.Collect(q.after(from))...); !slices.Equal(got, want[i:]) {
					t.Fatalf("after %v: %d, want %d", from, len(got), len(want[i:]))
				}
				for range q.all() {
					break // an early end is allowed
				}
			},
		})
	})
}

// A pin stays as it was, whatever joins, changes or leaves afterwards, and the
// sequence goes on as if it had not been pinned.
func TestSequencePins(t *testing.T) {
	type pinned struct {
		chunks []*chunk
		want   map[Cursor]*transaction
	}
	content := func(chunks []*chunk) map[Cursor]*transaction {
		got := map[Cursor]*transaction{}
		for _, c := range chunks {
			for i, p := range c.places {
				if !p.gone {
					got[p.at] = c.records[i]
				}
			}
		}
		return got
	}
	rapid.Check(t, func(t *rapid.T) {
		var q sequence
		model := map[Cursor]*transaction{}
		var pins []pinned
		next := uint64(1)
		put := func(c Cursor) {
			model[c] = new(transaction)
			q.put(c, model[c])
		}
		t.Repeat(map[string]func(*rapid.T){
			"append many": func(t *rapid.T) {
				for range rapid.IntRange(1, 3*chunkCap).Draw(t, "n") {
					next++
					put(Cursor{Index: next})
				}
			},
			"put":    func(t *rapid.T) { put(cursor(t, next+3)) },
			"remove": func(t *rapid.T) { c := cursor(t, next+3); q.remove(c); delete(model, c) },
			"remove some": func(t *rapid.T) {
				from := rapid.Uint64Range(1, next).Draw(t, "from")
				for i := range rapid.Uint64Range(1, 2*chunkCap).Draw(t, "n") {
					c := Cursor{Index: from + i}
					q.remove(c)
					delete(model, c)
				}
			},
			"pin": func(t *rapid.T) { pins = append(pins, pinned{q.pin(), maps.Clone(model)}) },
			"": func(t *rapid.T) {
				for i, p := range append(pins, pinned{q.chunks, model}) {
					if !maps.Equal(content(p.chunks), p.want) {
						t.Fatalf("pin %d of %d holds something else", i+1, len(pins))
					}
				}
			},
		})
	})
}

// What joins far behind the end moves no more than a chunk, however many do: one that is
// due beside an old leader's thousands, say, and then they, one after the other.
func TestSequenceSplits(t *testing.T) {
	var q sequence
	q.add(Cursor{Index: 100 * chunkCap})
	for i := range uint64(50 * chunkCap) {
		at := Cursor{Index: i*7919%(99*chunkCap) + 1} // in no order
		q.add(at)
		if i%3 == 0 {
			q.remove(at)
		}
	}
	live := 0
	for _, c := range q.chunks {
		live += c.live
		if len(c.places) > 2*chunkCap {
			t.Fatalf("a chunk of %d places", len(c.places))
		}
	}
	if n := len(slices.Collect(q.all())); n != q.count || n != live {
		t.Errorf("%d, counted %d and %d", n, q.count, live)
	}
}

// Empty chunks are let go of, so that long lives do not keep all memory.
func TestSequenceLetsGo(t *testing.T) {
	var q sequence
	for i := range uint64(10 * chunkCap) {
		q.add(Cursor{Index: i + 1})
		if i >= 10 {
			q.remove(Cursor{Index: i - 9})
		}
	}
	if len(q.chunks) > 2 || q.count != 10 {
		t.Errorf("%d chunks hold %d", len(q.chunks), q.count)
	}
}

// The heap gives the smallest first and drops any by its GID.
func TestHeapIsSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHeap()
		model := map[GID]heapKey{}
		gid := func(t *rapid.T) GID { return testGID(1, rapid.Uint64Range(0, 40).Draw(t, "gid")) }
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k := heapKey{rapid.Uint64Range(0, 5).Draw(t, "time"), Cursor{rapid.Uint64Range(0, 3).Draw(t, "index"), gid(t)}}
				h.put(k)
				model[k.order.GID] = k
			},
			"remove": func(t *rapid.T) { g := gid(t); h.remove(g); delete(model, g) },
			"pop": func(t *rapid.T) {
				if k, ok := h.first(); ok {
					h.remove(k.order.GID)
					delete(model, k.order.GID)
				}
			},
			"": func(t *rapid.T) {
				if h.len() != len(model) || len(h.place) != len(model) {
					t.Fatalf("%d keys, want %d", h.len(), len(model))
				}
				first, ok := h.first()
				if ok != (len(model) > 0) {
					t.Fatal("first of none")
				}
				for g, k := range model {
					if i, ok := h.place[g]; !ok || h.items[i] != k || k.less(first) {
						t.Fatalf("%v: lost, or before the first %v", k, first)
					}
				}
				if err := New().checkHeap(&h); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// The stubs are a queue from which any may be taken, in buckets.
func TestStubsAreAQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newStubs()
		type filed struct {
			gid GID
			ms  uint64
		}
		var model []filed
		clock, n := uint64(1), uint64(0)
		record := func(ms uint64, size int) func([]byte) []byte {
			return func(b []byte) []byte { return appendUint(appendText(b, 9, string(make([]byte, size))), 19, ms) }
		}
		t.Repeat(map[string]func(*rapid.T){
			"file": func(t *rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "n") {
					n++
					g := testGID(1, n)
					size := rapid.SampledFrom([]int{0, 10, bucketBytes / 3, bucketBytes}).Draw(t, "size")
					f.file(g, clock, record(clock, size))
					model = append(model, filed{g, clock})
				}
				clock += rapid.Uint64Range(0, 2).Draw(t, "later")
			},
			"drop": func(t *rapid.T) {
				if g, ok := f.oldest(); ok {
					f.remove(g)
					model = model[1:]
				}
			},
			"take": func(t *rapid.T) {
				if len(model) > 0 {
					i := rapid.IntRange(0, len(model)-1).Draw(t, "i")
					f.remove(model[i].gid)
					model = slices.Delete(model, i, i+1)
				}
			},
			"refile": func(t *rapid.T) {
				if len(model) > 0 {
					i := rapid.IntRange(0, len(model)-1).Draw(t, "i")
					g := model[i].gid
					f.remove(g)
					f.file(g, clock, record(clock, 5))
					model = append(slices.Delete(model, i, i+1), filed{g, clock})
				}
			},
			"take a stranger": func(t *rapid.T) { f.remove(testGID(2, 0)) },
			"": func(t *rapid.T) {
				if f.len() != len(model) {
					t.Fatalf("%d, want %d", f.len(), len(model))
				}
				g, ok := f.oldest()
				if ok != (len(model) > 0) || ok && (g != model[0].gid || f.headMS != model[0].ms) {
					t.Fatalf("oldest %v of %d, want %v", g, f.headMS, model)
				}
				if !ok && f.headMS != math.MaxUint64 {
					t.Fatalf("the head of none is %d", f.headMS)
				}
				for _, m := range model {
					if b, ok := f.get(m.gid); !ok || filedMSOf(b) != m.ms {
						t.Fatalf("%s is lost", m.gid)
					}
				}
				if _, ok := f.get(testGID(2, 0)); ok {
					t.Fatal("a stranger is there")
				}
				// What is pinned is exactly what stands, in order.
				i := 0
				for k, b := range f.buckets {
					p := pinnedBucket{data: b.data, dead: b.dead}
					if k == 0 {
						p.from = f.head
					}
					p.each(func(b []byte) {
						if i >= len(model) || filedMSOf(b) != model[i].ms {
							t.Fatalf("pinned record %d is wrong", i)
						}
						i++
					})
				}
				if i != len(model) {
					t.Fatalf("%d pinned, want %d", i, len(model))
				}
				if n := len(f.buckets); len(model) == 0 && n > 1 {
					t.Fatalf("%d buckets of nothing", n)
				}
			},
		})
	})
}

// The index is a map, whenever its GIDs are born, and keeps no memory for what is gone.
func TestGIDIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, model := newGIDIndex(), map[GID]filedRef{}
		gid := func(t *rapid.T) GID {
			return testGID(rapid.Uint64Range(0, 4<<windowBits).Draw(t, "born"), rapid.Uint64Range(0, 2).Draw(t, "gid"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				g, ref := gid(t), filedRef{bucket: rapid.Uint32().Draw(t, "bucket")}
				x.put(g, ref)
				model[g] = ref
			},
			"remove": func(t *rapid.T) { g := gid(t); x.remove(g); delete(model, g) },
			"remove one that stands": func(t *rapid.T) {
				for _, g := range slices.SortedFunc(maps.Keys(model), func(a, b GID) int { return slices.Compare(a[:], b[:]) }) {
					x.remove(g)
					delete(model, g)
					break
				}
			},
			"": func(t *rapid.T) {
				windows := map[uint64]bool{}
				for g, want := range model {
					windows[windowOf(g)] = true
					if ref, ok := x.get(g); !ok || ref != want {
						t.Fatalf("%s: %v, %v, want %v", g, ref, ok, want)
					}
				}
				if g := gid(t); x.len() != len(model) || len(x.windows) != len(windows) {
					t.Fatalf("%d in %d windows, want %d in %d", x.len(), len(x.windows), len(model), len(windows))
				} else if _, ok := x.get(g); ok != has(model, g) {
					t.Fatalf("%s stands is %v", g, ok)
				}
			},
		})
	})
}

func has(model map[GID]filedRef, g GID) bool {
	_, ok := model[g]
	return ok
}
