package participant

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// attachRetryMax is the longest pause between two tries to attach.
const attachRetryMax = 5 * time.Second

// unfitError says that the database was probed and found unfit.
type unfitError struct {
	resource string
	err      error
}

func (e *unfitError) Error() string {
	return fmt.Sprintf("resource %q cannot take part in transactions: %v", e.resource, e.err)
}

func (e *unfitError) Unwrap() error { return e.err }

// attachLoop probes the database and attaches to the cluster, again and again:
// a database that is down, or that an administrator mends, is taken up later.
func (p *Proxy) attachLoop() {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, attachRetryMax) {
		err := p.attachOnce()
		if err == nil {
			return
		}
		if p.ctx.Err() != nil {
			return
		}
		p.logger.Warn("not attached", "err", err)
		p.mu.Lock()
		p.why = err
		p.mu.Unlock()
		if sleep(p.ctx, pause) != nil {
			return
		}
	}
}

func (p *Proxy) attachOnce() error {
	ctx, cancel := context.WithTimeout(p.ctx, commandTimeout)
	defer cancel()
	if err := p.managed(ctx, func(s rawSession) error { return p.probe(ctx, s) }); err != nil {
		return err
	}
	attached, err := p.client.attach(p.ctx, p)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.attached, p.why = attached, nil
	p.mu.Unlock()
	close(p.ready)
	return nil
}

// probe checks what the protocol needs of the database, and creates the evidence
// table where it is missing.
func (p *Proxy) probe(ctx context.Context, s rawSession) error {
	if err := p.engine.probe(ctx, s, &p.cfg); err != nil {
		return p.probed(err)
	}
	err := p.dialect.durability(ctx, s)
	var verdict unfit
	switch {
	case err == nil:
	case !errors.As(err, &verdict):
		return p.probed(err)
	case p.cfg.unsafe:
		p.logger.Warn("the database may lose what was acknowledged", "err", err)
	default:
		return p.probed(unfitf("%w; or accept the loss with participant.AllowUnsafe()", err))
	}
	if err := ensureSchema(ctx, p.dialect, s); err != nil {
		return p.probed(err)
	}
	why, err := p.engine.failedOver(ctx, s)
	if err == nil && why != "" {
		p.logger.Error("ALARM: the database has failed over", "why", why)
	}
	return p.probed(err)
}

// probed tells a verdict on the database from a failure to reach it.
func (p *Proxy) probed(err error) error {
	var verdict unfit
	switch {
	case err == nil:
		return nil
	case errors.As(err, &verdict):
		return &unfitError{resource: p.resource, err: err}
	}
	return fmt.Errorf("probe %q: %w", p.resource, err)
}

// unfit is a probe's verdict: waiting does not mend it, a person does.
type unfit struct{ error }

func (u unfit) Unwrap() error { return u.error }

func unfitf(format string, args ...any) error { return unfit{fmt.Errorf(format, args...)} }
