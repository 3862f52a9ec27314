package participant

import (
	"context"
	"database/sql/driver"
)

// proxyStmt is a prepared statement: judged each time that it runs, because it
// may run inside a branch and outside of one.
type proxyStmt struct {
	c     *proxyConn
	raw   driver.Stmt
	found statements
}

var (
	_ driver.StmtExecContext   = (*proxyStmt)(nil)
	_ driver.StmtQueryContext  = (*proxyStmt)(nil)
	_ driver.NamedValueChecker = (*proxyStmt)(nil)
)

// Close closes the statement, unless its connection is a prepared branch's.
func (s *proxyStmt) Close() error {
	if s.c.gone.Load() {
		return nil
	}
	s.c.statements--
	return s.raw.Close()
}

// NumInput is the number of parameters.
func (s *proxyStmt) NumInput() int { return s.raw.NumInput() }

// Exec runs the statement without a context.
func (s *proxyStmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), named(args))
}

// Query runs the query without a context.
func (s *proxyStmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), named(args))
}

// ExecContext runs the statement.
func (s *proxyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.c.admit(ctx, s.found); err != nil {
		return nil, err
	}
	res, err := execStmt(ctx, s.raw, args)
	return res, s.c.changed(ctx, s.found, res, s.c.done(s.found, err))
}

// QueryContext runs the query.
func (s *proxyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.c.admit(ctx, s.found.query()); err != nil {
		return nil, err
	}
	rows, err := queryStmt(ctx, s.raw, args)
	return rows, s.c.done(s.found, err)
}

// CheckNamedValue hands the question to the driver, in database/sql's order.
func (s *proxyStmt) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := s.raw.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	if checker, ok := s.c.raw.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	if converter, ok := s.raw.(driver.ColumnConverter); ok { //nolint:staticcheck // older drivers
		converted, err := converter.ColumnConverter(v.Ordinal - 1).ConvertValue(v.Value)
		if err == nil {
			v.Value = converted
		}
		return err
	}
	return driver.ErrSkip
}
