package participant

import (
	"slices"
	"strconv"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Names on the wire: gRPC metadata as they stand, HTTP headers in canonical form.
const (
	headerGID     = "quorate-gid"
	headerBranch  = "quorate-branch"
	headerCluster = "quorate-cluster"
	headerTimeout = "quorate-timeout"
	headerEntry   = "quorate-entry"
	// headerOperation stands in branch calls only.
	headerOperation = "quorate-operation"
	// trailerComplete is `true` when every branch of the callee's subtree has voted.
	trailerComplete = "quorate-complete"
	// trailerBranches lists the subtree's branches: `id=resource`, comma-separated.
	trailerBranches = "quorate-branches"
)

// Values of headerEntry; explicit is no header.
const (
	entryNamed   = "named"
	entryOneShot = "one-shot"
)

// trailer is what a callee says of its subtree when it answers.
type trailer struct {
	complete bool
	oneShot  bool
	branches []*quoratev1.BranchSpec
	// ballots are the votes of a one-shot transaction.
	ballots []*quoratev1.Ballot
}

// headers are the fields that carry a call of path in s.
func (s *scope) headers(path string) map[string]string {
	h := map[string]string{
		headerGID:     string(s.gid),
		headerBranch:  path,
		headerCluster: s.cluster,
		headerTimeout: strconv.FormatInt(seconds(s.timeout), 10),
	}
	switch {
	case s.oneShot:
		// One that does not know the word takes the transaction for a begun one, and its
		// branches are refused.
		h[headerEntry] = entryOneShot
	case s.entry == EntryNamed:
		h[headerEntry] = entryNamed
	}
	return h
}

// incoming reads the headers of a call; ok is false when it carries none.
func incoming(get func(string) string) (info Info, ok bool, err error) {
	// A call that names an operation is the coordinator's own, or a try: it says what to do,
	// and carries no two-phase transaction to join (package fence).
	if get(headerGID) == "" || get(headerOperation) != "" {
		return Info{}, false, nil
	}
	info.GID, err = ParseGID(get(headerGID))
	if err != nil {
		return Info{}, false, err
	}
	info.Path, info.Cluster, info.Entry = get(headerBranch), get(headerCluster), EntryExplicit
	switch get(headerEntry) {
	case entryNamed:
		info.Entry = EntryNamed
	case entryOneShot:
		info.Entry, info.OneShot = EntryNamed, true
	}
	if err := validPath(info.Path); err != nil {
		return Info{}, false, err
	}
	n, err := strconv.ParseUint(get(headerTimeout), 10, 31)
	if err != nil {
		return Info{}, false, badHeader(headerTimeout, get(headerTimeout), "whole seconds")
	}
	info.Timeout = time.Duration(n) * time.Second
	return info, true, nil
}

// seconds rounds up to whole seconds, as xids and headers hold a timeout.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

// each calls f with each field and its value.
func (t trailer) each(f func(name string, value ...string)) {
	f(trailerComplete, strconv.FormatBool(t.complete))
	f(trailerBranches, t.encodeBranches())
	if t.oneShot {
		f(trailerVotes, encodeVotes(t.ballots))
	}
}

// encodeBranches writes the value of trailerBranches. Resources are names of our
// own; one that would break the list is left out, its branch is not.
func (t trailer) encodeBranches() string {
	parts := make([]string, 0, len(t.branches))
	for _, b := range t.branches {
		part := b.GetId()
		if r := b.GetResource(); r != "" && printable(r) && !strings.ContainsAny(r, ",=") {
			part += "=" + r
		}
		parts = append(parts, part)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// readTrailer reads what a callee said; a callee that said nothing is incomplete,
// and so is one whose votes cannot be read.
func readTrailer(get func(name string) string) trailer {
	t := trailer{complete: get(trailerComplete) == "true"}
	for part := range strings.SplitSeq(get(trailerBranches), ",") {
		id, resource, _ := strings.Cut(part, "=")
		if validPath(id) == nil {
			t.branches = append(t.branches, &quoratev1.BranchSpec{Id: id, Resource: resource})
		}
	}
	var ok bool
	if t.ballots, ok = readVotes(get(trailerVotes)); !ok {
		t.complete = false
	}
	return t
}

// validPath refuses what is no call path: numbers joined by dots, of at most
// BranchIDBytesMax bytes. Foreign callers choose it, so it is checked here.
func validPath(path string) error {
	if path == "" || len(path) > BranchIDBytesMax {
		return badHeader(headerBranch, path, "a call path of 1 to 32 bytes")
	}
	for _, r := range path {
		if r <= ' ' || r > '~' || r == ',' || r == '=' {
			return badHeader(headerBranch, path, "a call path such as 1.2")
		}
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func badHeader(name, value, want string) error {
	return &RefusedError{Reason: "INVALID", Detail: name + " is " + strconv.Quote(value) + ", want " + want}
}
