package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// rawSession speaks SQL on one connection of a driver, for the proxy's own
// statements. Arguments and results are plain driver values.
type rawSession struct {
	raw driver.Conn
	// state is kept of the connections that branches work on; nil of the proxy's own.
	state *sessionState
}

// exec runs one statement and returns the number of rows that it changed.
func (s rawSession) exec(ctx context.Context, query string, args ...driver.Value) (int64, error) {
	var res driver.Result
	err := driver.ErrSkip
	if c, ok := s.raw.(driver.ExecerContext); ok {
		res, err = c.ExecContext(ctx, query, named(args))
	}
	if errors.Is(err, driver.ErrSkip) {
		err = s.prepared(ctx, query, func(st driver.Stmt) (err error) {
			res, err = execStmt(ctx, st, named(args))
			return err
		})
	}
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, nil //nolint:nilerr // a driver that cannot count says so for every statement
	}
	return n, nil
}

// row runs a query and returns its first row; errNoRow when it has none.
func (s rawSession) row(ctx context.Context, query string, args ...driver.Value) ([]driver.Value, error) {
	var first []driver.Value
	err := s.rows(ctx, query, func(row []driver.Value) {
		if first == nil {
			first = append(first, row...)
		}
	}, args...)
	if err == nil && first == nil {
		err = errNoRow
	}
	return first, err
}

// errNoRow is what row answers where a query has none.
var errNoRow = errors.New("participant: no row")

// rows runs a query and calls f with each row, which f must not keep.
func (s rawSession) rows(ctx context.Context, query string, f func([]driver.Value), args ...driver.Value) error {
	read := func(rows driver.Rows) error {
		defer rows.Close()
		row := make([]driver.Value, len(rows.Columns()))
		for {
			err := rows.Next(row)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for i, v := range row {
				if b, ok := v.([]byte); ok { // the driver's own buffer
					row[i] = string(b)
				}
			}
			f(row)
		}
	}
	err := driver.ErrSkip
	if c, ok := s.raw.(driver.QueryerContext); ok {
		var rows driver.Rows
		if rows, err = c.QueryContext(ctx, query, named(args)); err == nil {
			return read(rows)
		}
	}
	if errors.Is(err, driver.ErrSkip) {
		err = s.prepared(ctx, query, func(st driver.Stmt) error {
			rows, err := queryStmt(ctx, st, named(args))
			if err != nil {
				return err
			}
			return read(rows)
		})
	}
	return err
}

// prepared runs f with a prepared statement, for drivers that have no other way.
func (s rawSession) prepared(ctx context.Context, query string, f func(driver.Stmt) error) error {
	st, err := prepareConn(ctx, s.raw, query)
	if err != nil {
		return err
	}
	defer st.Close()
	return f(st)
}

// prepareConn prepares a statement with the best method that the connection has.
func prepareConn(ctx context.Context, raw driver.Conn, query string) (driver.Stmt, error) {
	if c, ok := raw.(driver.ConnPrepareContext); ok {
		return c.PrepareContext(ctx, query)
	}
	return raw.Prepare(query)
}

// execStmt and queryStmt run a statement with the best method that it has.
func execStmt(ctx context.Context, st driver.Stmt, args []driver.NamedValue) (driver.Result, error) {
	if c, ok := st.(driver.StmtExecContext); ok {
		return c.ExecContext(ctx, args)
	}
	values, err := unnamed(args)
	if err != nil {
		return nil, err
	}
	return st.Exec(values) //nolint:staticcheck // all that the driver has
}

func queryStmt(ctx context.Context, st driver.Stmt, args []driver.NamedValue) (driver.Rows, error) {
	if c, ok := st.(driver.StmtQueryContext); ok {
		return c.QueryContext(ctx, args)
	}
	values, err := unnamed(args)
	if err != nil {
		return nil, err
	}
	return st.Query(values) //nolint:staticcheck // all that the driver has
}

func named(values []driver.Value) []driver.NamedValue {
	out := make([]driver.NamedValue, len(values))
	for i, v := range values {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return out
}

func unnamed(args []driver.NamedValue) ([]driver.Value, error) {
	out := make([]driver.Value, len(args))
	for i, a := range args {
		if a.Name != "" {
			return nil, fmt.Errorf("participant: the driver does not support named arguments (%s)", a.Name)
		}
		out[i] = a.Value
	}
	return out, nil
}

// text and number read a driver value in whichever form the driver gave it.
func text(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

func number(v driver.Value) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case float64:
		return int64(v), nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	}
	return strconv.ParseInt(text(v), 10, 64)
}
