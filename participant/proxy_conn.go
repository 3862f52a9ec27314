package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
)

// proxyConn is one connection of the pool. database/sql uses it from one goroutine
// at a time; a delivery may call doom from another.
type proxyConn struct {
	p     *Proxy
	raw   driver.Conn
	state *sessionState

	// branch is the open branch transaction, nil outside of one.
	branch *branchTx
	// local is the open transaction that is no branch.
	local *localTx
	// tainted connections are not used again: SQL text may have left a transaction
	// open, or a statement's end is not known.
	tainted bool
	// statements counts the prepared statements that are open.
	statements int
	// gone is set when the raw connection was taken over by a prepared branch.
	gone atomic.Bool
}

var (
	_ driver.ConnBeginTx        = (*proxyConn)(nil)
	_ driver.ConnPrepareContext = (*proxyConn)(nil)
	_ driver.ExecerContext      = (*proxyConn)(nil)
	_ driver.QueryerContext     = (*proxyConn)(nil)
	_ driver.NamedValueChecker  = (*proxyConn)(nil)
	_ driver.Pinger             = (*proxyConn)(nil)
	_ driver.SessionResetter    = (*proxyConn)(nil)
	_ driver.Validator          = (*proxyConn)(nil)
)

// admit judges a statement before it runs.
func (c *proxyConn) admit(ctx context.Context, found statements) error {
	if c.gone.Load() {
		return driver.ErrBadConn
	}
	if found.sets || c.p.keepsNone.Load() {
		c.state.kept.clear() // another database or sql_mode, and the texts mean something else; or others need the room
	}
	info, carries := FromContext(ctx)
	switch {
	case c.branch != nil:
		if err := c.branch.admit(info, carries, found); err != nil {
			return err
		}
		return c.branch.before(ctx, found)
	case IsOutside(ctx), c.local != nil && c.local.outside:
	case carries:
		return fmt.Errorf("transaction %s: %w", info.GID, ErrOutsideTransaction)
	case c.p.cfg.strict:
		return fmt.Errorf("resource %q: %w", c.p.resource, ErrStrict)
	}
	// Transparent: but a transaction that text begins is not seen from here.
	c.tainted = c.tainted || found.control != ""
	return c.ownSettings(ctx, found)
}

// ownSettings puts back what branches have set; what the statement may set is not known.
func (c *proxyConn) ownSettings(ctx context.Context, found statements) error {
	d, ok := c.p.dialect.(restoring)
	if !ok || c.state.ownLockWait == 0 {
		return nil
	}
	if err := d.restore(ctx, c.session()); err != nil {
		return err
	}
	if found.sets {
		c.state.ownLockWait = 0
	}
	return nil
}

// done looks at the error of a statement that ran.
func (c *proxyConn) done(found statements, err error) error {
	if c.branch == nil || errors.Is(err, driver.ErrSkip) { // database/sql prepares it, and comes again
		return err
	}
	if found.sets {
		c.state.lockWait = unknownLockWait
	}
	c.branch.mark.schemaChanged = c.branch.mark.schemaChanged || found.schema
	err = c.branch.explain(err)
	c.branch.note(err)
	return err
}

// changed notes that a statement has changed rows, and hands its error on.
func (c *proxyConn) changed(ctx context.Context, found statements, res driver.Result, err error) error {
	if err != nil || c.branch == nil || !found.change || c.branch.mark.wrote {
		return err
	}
	if n, countErr := res.RowsAffected(); countErr == nil && n > 0 {
		c.branch.mark.wrote = true
		return nil
	}
	return c.branch.after(ctx, found)
}

func (c *proxyConn) scan(query string) statements {
	return c.p.scanned.scan(query, c.p.dialect.mysqlText())
}

// ExecContext runs a statement.
func (c *proxyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	execer, ok := c.raw.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	found := c.scan(query)
	if err := c.admit(ctx, found); err != nil {
		return nil, err
	}
	res, err := c.execRaw(ctx, execer, query, args, found)
	return res, c.changed(ctx, found, res, c.done(found, err))
}

// QueryContext runs a query.
func (c *proxyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	queryer, ok := c.raw.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	found := c.scan(query).query()
	if err := c.admit(ctx, found); err != nil {
		return nil, err
	}
	rows, err := c.queryRaw(ctx, queryer, query, args, found)
	return rows, c.done(found, err)
}

// Prepare prepares a statement.
func (c *proxyConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext prepares a statement; it is judged when it runs.
func (c *proxyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if c.gone.Load() {
		return nil, driver.ErrBadConn
	}
	st, err := prepareConn(ctx, c.raw, query)
	if err != nil {
		return nil, err
	}
	c.statements++
	return &proxyStmt{c: c, raw: st, found: c.scan(query)}, nil
}

// Begin begins a transaction that is no branch.
func (c *proxyConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx begins a branch where the context carries a GID, and a plain
// transaction elsewhere.
func (c *proxyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.gone.Load() {
		return nil, driver.ErrBadConn
	}
	outside := IsOutside(ctx)
	if info, ok := FromContext(ctx); ok && !outside {
		return c.beginBranch(ctx, info, opts)
	}
	if c.p.cfg.strict && !outside {
		return nil, fmt.Errorf("resource %q: %w", c.p.resource, ErrStrict)
	}
	return c.beginLocal(ctx, opts, outside)
}

// localTx is a transaction that is no branch.
type localTx struct {
	c       *proxyConn
	raw     driver.Tx
	outside bool
}

func (c *proxyConn) beginLocal(ctx context.Context, opts driver.TxOptions, outside bool) (driver.Tx, error) {
	if err := c.ownSettings(ctx, statements{}); err != nil {
		return nil, err
	}
	var raw driver.Tx
	var err error
	if b, ok := c.raw.(driver.ConnBeginTx); ok {
		raw, err = b.BeginTx(ctx, opts)
	} else if opts != (driver.TxOptions{}) {
		return nil, errors.New("participant: the driver does not support transaction options")
	} else {
		raw, err = c.raw.Begin() //nolint:staticcheck // all that the driver has
	}
	if err != nil {
		return nil, err
	}
	c.local = &localTx{c: c, raw: raw, outside: outside}
	return c.local, nil
}

// Commit commits the plain transaction.
func (t *localTx) Commit() error {
	t.c.local = nil
	return t.raw.Commit()
}

// Rollback rolls it back.
func (t *localTx) Rollback() error {
	t.c.local = nil
	return t.raw.Rollback()
}

// CheckNamedValue hands the question to the driver.
func (c *proxyConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.raw.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// Ping asks the server.
func (c *proxyConn) Ping(ctx context.Context) error {
	if c.gone.Load() {
		return driver.ErrBadConn
	}
	if pinger, ok := c.raw.(driver.Pinger); ok {
		return pinger.Ping(ctx)
	}
	return nil
}

// ResetSession readies a connection for its next use.
func (c *proxyConn) ResetSession(ctx context.Context) error {
	if c.tainted || c.gone.Load() {
		return driver.ErrBadConn
	}
	if r, ok := c.raw.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

// IsValid is false for connections that must leave the pool: those that a
// prepared branch keeps are such.
func (c *proxyConn) IsValid() bool {
	if c.tainted || c.gone.Load() {
		return false
	}
	if v, ok := c.raw.(driver.Validator); ok {
		return v.IsValid()
	}
	return true
}

// Close closes the connection, unless a prepared branch keeps it.
func (c *proxyConn) Close() error {
	if c.gone.Load() {
		return nil
	}
	return c.raw.Close()
}
