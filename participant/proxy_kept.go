package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
)

// keptMax is how many prepared statements are kept of one connection.
const keptMax = 32

// keeping is a dialect whose drivers prepare a statement with parameters anew each time
// that it runs, and close it: two more requests and a round trip a statement. The drivers
// of Postgres keep them by themselves.
type keeping interface{ keepsStatements() }

// kept are the prepared statements of a connection, by their text. Those that a service
// prepares by itself are not among them.
type kept struct {
	statements map[string]*keptStmt
	uses       uint64
}

// keptStmt is one of them, with the number of its last use.
type keptStmt struct {
	raw  driver.Stmt
	used uint64
}

// statement is a prepared statement for the text, kept or new; nil where that is left to
// database/sql, which prepares one, or says what is wrong with it.
func (c *proxyConn) statement(ctx context.Context, query string, args []driver.NamedValue) driver.Stmt {
	k := &c.state.kept
	s := k.statements[query]
	if s == nil {
		if s = c.keep(ctx, query); s == nil {
			return nil
		}
	}
	if n := s.raw.NumInput(); n >= 0 && n != len(args) {
		return nil
	}
	k.uses++
	s.used = k.uses
	return s.raw
}

// keep prepares a statement and keeps it, instead of the one that was longest of no use
// where there are too many.
func (c *proxyConn) keep(ctx context.Context, query string) *keptStmt {
	if c.p.keepsNone.Load() {
		return nil
	}
	// MySQL takes the type of a session's variable from when the statement was prepared.
	if strings.Contains(query, "@") || len(query) > scannedBytesMax {
		return nil
	}
	raw, err := prepareConn(ctx, c.raw, query)
	if err != nil {
		if n, ok := mysqlNumber(err); ok && n == mysqlTooManyPrepared {
			c.p.keepsNone.Store(true)
			c.state.kept.clear()
		}
		return nil // database/sql says so, when it tries
	}
	return c.state.kept.add(query, raw)
}

func (k *kept) add(query string, raw driver.Stmt) *keptStmt {
	if len(k.statements) >= keptMax {
		oldest := ""
		for text, s := range k.statements {
			if oldest == "" || s.used < k.statements[oldest].used {
				oldest = text
			}
		}
		k.drop(oldest)
	}
	if k.statements == nil {
		k.statements = make(map[string]*keptStmt)
	}
	s := &keptStmt{raw: raw}
	k.statements[query] = s
	return s
}

// has says that the text's statement is kept.
func (k *kept) has(query string) bool { return k.statements[query] != nil }

// drop closes one statement. Where the server cannot be told, it has it until the
// connection ends.
func (k *kept) drop(query string) {
	if s := k.statements[query]; s != nil {
		delete(k.statements, query)
		_ = s.raw.Close()
	}
}

// clear closes all of them: what they mean may have changed.
func (k *kept) clear() {
	for query := range k.statements {
		k.drop(query)
	}
}

// Errors of MySQL's about prepared statements.
const (
	mysqlUnknownStatement = 1243 // ER_UNKNOWN_STMT_HANDLER
	mysqlTooManyPrepared  = 1461 // ER_MAX_PREPARED_STMT_COUNT_REACHED
	mysqlPrepareAgain     = 1615 // ER_NEED_REPREPARE
)

// stale says that a statement has not run, because the server does not know it any more,
// or not as it was.
func stale(err error) bool {
	n, ok := mysqlNumber(err)
	return ok && (n == mysqlUnknownStatement || n == mysqlPrepareAgain)
}

// execRaw runs a statement on the driver's connection.
func (c *proxyConn) execRaw(ctx context.Context, e driver.ExecerContext, query string, args []driver.NamedValue, found statements) (driver.Result, error) {
	if !c.state.kept.has(query) {
		res, err := e.ExecContext(ctx, query, args)
		if !c.keeps(found, err) {
			return res, err
		}
	}
	st := c.statement(ctx, query, args)
	if st == nil {
		return nil, driver.ErrSkip
	}
	res, err := execStmt(ctx, st, args)
	return res, c.again(query, err)
}

// queryRaw runs a query there.
func (c *proxyConn) queryRaw(ctx context.Context, q driver.QueryerContext, query string, args []driver.NamedValue, found statements) (driver.Rows, error) {
	if !c.state.kept.has(query) {
		rows, err := q.QueryContext(ctx, query, args)
		if !c.keeps(found, err) {
			return rows, err
		}
	}
	st := c.statement(ctx, query, args)
	if st == nil {
		return nil, driver.ErrSkip
	}
	rows, err := queryStmt(ctx, st, args)
	return rows, c.again(query, err)
}

// keeps says that the driver wants a statement prepared that is to be kept.
func (c *proxyConn) keeps(found statements, err error) bool {
	_, keeps := c.p.dialect.(keeping)
	return keeps && !found.sets && errors.Is(err, driver.ErrSkip)
}

// again has database/sql prepare a statement that has not run because it is stale.
func (c *proxyConn) again(query string, err error) error {
	if !stale(err) {
		return err
	}
	c.state.kept.drop(query)
	return driver.ErrSkip
}
