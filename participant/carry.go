package participant

import (
	"context"
	"sync"
)

// outCall is one outgoing call, whatever carries it. It must be ended.
type outCall struct {
	scope *scope
	path  string
	once  sync.Once
}

// startCall prepares a call made with ctx; nil when ctx carries no transaction.
func startCall(ctx context.Context) (*outCall, error) {
	s, path, err := outgoing(ctx)
	if s == nil || err != nil {
		return nil, err
	}
	s.callStarted()
	return &outCall{scope: s, path: path}, nil
}

// headers carry the call.
func (c *outCall) headers() map[string]string { return c.scope.headers(c.path) }

// ended takes what the callee said; the first word stands.
func (c *outCall) ended(t trailer) {
	c.once.Do(func() { c.scope.callEnded(c.path, t) })
}

// enter makes the scope of a handler that serves an incoming call; nil when the
// call carries no transaction. The scope must be answered.
func enter(ctx context.Context, get func(string) string) (context.Context, *scope, error) {
	info, ok, err := incoming(get)
	if err != nil || !ok {
		return ctx, nil, err
	}
	s := newScope(info)
	s.setWaited(true)
	return withScope(ctx, s), s, nil
}
