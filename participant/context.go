package participant

import (
	"context"
	"fmt"
	"time"
)

type (
	scopeKey   struct{}
	callKey    struct{}
	outsideKey struct{}
)

// Info is what a context says of its transaction.
type Info struct {
	GID GID
	// Path is the call path of the running code; empty in the initiator itself.
	Path string
	// Cluster is the id of the cluster that the transaction lives in.
	Cluster string
	// Timeout of the transaction.
	Timeout time.Duration
	// Entry says how branches enter.
	Entry Entry
	// OneShot says that the votes of its branches go back with the answers to calls, as
	// only the interceptors of this package do; see [OneShot].
	OneShot bool
}

// FromContext tells which transaction the context carries, if any.
func FromContext(ctx context.Context) (Info, bool) {
	s := scopeOf(ctx)
	if s == nil {
		return Info{}, false
	}
	return s.info(), true
}

// Join makes a context of the transaction that info names, for callers that carry
// it over a transport of their own. Path must be a call path of its own (see
// [Call]) and must be the same again when the call is repeated. One-shot
// transactions are refused: their votes could not get back.
func Join(ctx context.Context, info Info) (context.Context, error) {
	gid, err := ParseGID(string(info.GID))
	if err != nil {
		return ctx, err
	}
	if len(info.Path) > BranchIDBytesMax {
		return ctx, fmt.Errorf("%w: %q", ErrPathTooLong, info.Path)
	}
	if info.OneShot {
		return ctx, fmt.Errorf("%w: transaction %s came over a transport that brings no votes back", ErrOneShot, gid)
	}
	info.GID = gid
	return withScope(ctx, newScope(info)), nil
}

// Call reserves the call path of one outgoing call now. Requests made with the
// returned context are repeats of one call, so the callee's branches are the same
// ones: use it around a retry loop. Without it, each request is a call of its own.
func Call(ctx context.Context) (context.Context, error) {
	s := scopeOf(ctx)
	if s == nil {
		return ctx, ErrNoTransaction
	}
	path, err := s.child()
	if err != nil {
		return ctx, err
	}
	return context.WithValue(ctx, callKey{}, reserved{scope: s, path: path}), nil
}

// Outside marks the context so that statements made with it outside a local
// transaction are let through although it carries a GID. They are not a part of
// the transaction.
func Outside(ctx context.Context) context.Context {
	return context.WithValue(ctx, outsideKey{}, true)
}

// IsOutside reports whether [Outside] marked the context.
func IsOutside(ctx context.Context) bool {
	outside, _ := ctx.Value(outsideKey{}).(bool)
	return outside
}

// reserved is a call path that was given out by Call.
type reserved struct {
	scope *scope
	path  string
}

func withScope(ctx context.Context, s *scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// outgoing returns the scope and the path of a call that is made with ctx; a nil
// scope when it carries no transaction.
func outgoing(ctx context.Context) (*scope, string, error) {
	s := scopeOf(ctx)
	if s == nil {
		return nil, "", nil
	}
	if r, ok := ctx.Value(callKey{}).(reserved); ok && r.scope == s {
		return s, r.path, nil
	}
	path, err := s.child()
	return s, path, err
}
