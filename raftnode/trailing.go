package raftnode

// sizes are the bytes of the entries in a log, so that what stays behind a
// snapshot can be bounded by bytes: a node verifies its whole log when it starts,
// and entries of a busy cluster are a hundred times as large as those of an idle one.
type sizes struct {
	first uint64 // index of the first
	bytes []uint32
}

// set notes the size of the entry at index, behind all others.
func (s *sizes) set(index uint64, bytes int) {
	if len(s.bytes) == 0 || index != s.first+uint64(len(s.bytes)) {
		s.first, s.bytes = index, nil
	}
	s.bytes = append(s.bytes, uint32(bytes))
}

// keep forgets all but the entries from first to last.
func (s *sizes) keep(first, last uint64) {
	end := s.first + uint64(len(s.bytes)) // behind the last
	first, last = max(first, s.first), min(last+1, end)
	if first >= last {
		*s = sizes{}
		return
	}
	s.bytes = s.bytes[first-s.first : last-s.first]
	s.first = first
}

// trailing is how many of the latest entries fit into so many bytes, the latest
// always, and no more than most.
func (s *sizes) trailing(bytes int64, most uint64) (entries uint64) {
	for i := len(s.bytes) - 1; i >= 0 && entries < most; i-- {
		if bytes -= int64(s.bytes[i]); bytes < 0 {
			break
		}
		entries++
	}
	return max(entries, min(most, 1))
}

// boundTrailing tells the library how many entries stay in the log when a snapshot
// is taken now, and how many make the next one due. It counts entries alone.
func (n *Node) boundTrailing() {
	library := n.raft()
	if library == nil {
		return
	}
	s := n.stores.log
	s.mu.Lock()
	entries := s.sizes.trailing(max(n.cfg.TrailingBytes, n.stores.snapshots.latest.Load().bytes), n.cfg.TrailingEntries)
	s.mu.Unlock()
	settings, due := library.ReloadableConfig(), n.snapshotDueEntries()
	if settings.TrailingLogs == entries && settings.SnapshotThreshold == due {
		return
	}
	settings.TrailingLogs, settings.SnapshotThreshold = entries, due
	if err := library.ReloadConfig(settings); err != nil {
		n.cfg.Logger.Warn("the log's trailing entries, and those that make a snapshot due, stay as many as they were", "error", err)
	}
}
