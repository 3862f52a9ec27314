package fsm

// gidIndex is where the filed records stand. It is split by when GIDs were born, and
// drops what is empty: a new transaction is looked for among those of its own second,
// which are in the processor's caches, not among millions of half an hour, and a map
// that retention has emptied gives its memory back.
type gidIndex struct {
	windows map[uint64]map[GID]filedRef
	count   int
	// latest is the window that a record was filed in last, and latestAt its place, where it
	// mostly goes on. It is nil where there is none.
	latest   map[GID]filedRef
	latestAt uint64
}

// windowBits of milliseconds make a window: about a second.
const windowBits = 10

func windowOf(gid GID) uint64 { return gid.BornMS() >> windowBits }

func newGIDIndex() gidIndex { return gidIndex{windows: make(map[uint64]map[GID]filedRef)} }

func (x *gidIndex) len() int { return x.count }

func (x *gidIndex) get(gid GID) (ref filedRef, ok bool) {
	ref, ok = x.window(windowOf(gid))[gid]
	return ref, ok
}

// window is nil where nothing stands there.
func (x *gidIndex) window(at uint64) map[GID]filedRef {
	if at == x.latestAt && x.latest != nil {
		return x.latest
	}
	return x.windows[at]
}

func (x *gidIndex) put(gid GID, ref filedRef) {
	at := windowOf(gid)
	w := x.window(at)
	if w == nil {
		w = make(map[GID]filedRef)
		x.windows[at] = w
	}
	x.latest, x.latestAt = w, at
	before := len(w)
	w[gid] = ref
	x.count += len(w) - before
}

func (x *gidIndex) remove(gid GID) {
	at := windowOf(gid)
	w := x.windows[at]
	before := len(w)
	delete(w, gid)
	x.count += len(w) - before
	if len(w) == 0 {
		delete(x.windows, at)
		x.latest = nil
	}
}
