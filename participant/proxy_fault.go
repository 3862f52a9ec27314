package participant

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// fault says what a database's error means for a branch. The drivers are not
// imported here: their errors are told apart by the methods and fields that they
// are known for.
type fault int

const (
	// faultNone is no error.
	faultNone fault = iota
	// faultServer is any other error that the server answered: the statement had no effect.
	faultServer
	// faultLost means that no answer was heard: the statement may have taken effect.
	faultLost
	// faultLockTimeout means that a lock was waited for in vain.
	faultLockTimeout
	// faultDeadlock means that the server ended the transaction to end a deadlock.
	faultDeadlock
	// faultDuplicate means that a unique key stands already.
	faultDuplicate
	// faultNotFound means that the server does not know the prepared transaction, or
	// not from this session.
	faultNotFound
	// faultInUse means that another session works on the prepared transaction, or that
	// its name is taken.
	faultInUse
	// faultNoTable means that the evidence table is not there.
	faultNoTable
)

// SQLSTATEs of Postgres (its manual, appendix A).
var postgresFaults = map[string]fault{
	"55P03": faultLockTimeout, // lock_not_available
	"40P01": faultDeadlock,    // deadlock_detected
	"23505": faultDuplicate,   // unique_violation
	"42704": faultNotFound,    // undefined_object: no such prepared transaction
	"55000": faultInUse,       // object_not_in_prerequisite_state: it is busy
	"42710": faultInUse,       // duplicate_object: the identifier is in use
	"42P01": faultNoTable,     // undefined_table
	"57P01": faultLost,        // admin_shutdown: what was running is not known to have failed
	"57P02": faultLost,        // crash_shutdown
}

// Error numbers of MySQL and MariaDB (mysqld_error.h).
var mysqlFaults = map[uint64]fault{
	1205: faultLockTimeout, // ER_LOCK_WAIT_TIMEOUT
	1213: faultDeadlock,    // ER_LOCK_DEADLOCK
	1614: faultDeadlock,    // ER_XA_RBDEADLOCK
	1062: faultDuplicate,   // ER_DUP_ENTRY
	1397: faultNotFound,    // ER_XAER_NOTA
	1440: faultInUse,       // ER_XAER_DUPID
	1146: faultNoTable,     // ER_NO_SUCH_TABLE
	1053: faultLost,        // ER_SERVER_SHUTDOWN
	1927: faultLost,        // ER_CONNECTION_KILLED (MariaDB)
}

// Result codes of SQLite (sqlite3.h): the primary code is the low byte.
const (
	sqliteBusy         = 5
	sqliteLocked       = 6
	sqliteConstraint   = 19
	sqliteBusySnapshot = 517
	sqlitePrimaryKey   = 1555
	sqliteUnique       = 2067
)

// faultOf judges an error of any driver.
func faultOf(err error) fault {
	if err == nil {
		return faultNone
	}
	if errors.Is(err, driver.ErrBadConn) {
		return faultLost
	}
	if errors.As(err, new(refusal)) {
		return faultServer
	}
	var state interface{ SQLState() string } // pgx, lib/pq
	if errors.As(err, &state) {
		if f, ok := postgresFaults[state.SQLState()]; ok {
			return f
		}
		return faultServer
	}
	if n, ok := mysqlNumber(err); ok {
		if f, ok := mysqlFaults[n]; ok {
			return f
		}
		return faultServer
	}
	if code, ok := sqliteCode(err); ok {
		switch {
		case code == sqlitePrimaryKey || code == sqliteUnique || code == sqliteConstraint:
			return faultDuplicate
		case code&0xff == sqliteBusy || code&0xff == sqliteLocked:
			return faultLockTimeout
		case strings.Contains(err.Error(), "no such table"):
			return faultNoTable
		}
		return faultServer
	}
	return faultLost
}

// refusal is the proxy's own word on what must not run: the connection is well.
type refusal struct{ error }

func refusef(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

func (r refusal) Unwrap() error { return r.error }

// mysqlNumber finds the field Number of *mysql.MySQLError.
func mysqlNumber(err error) (uint64, bool) {
	return errorField(err, func(v reflect.Value) (uint64, bool) {
		f := v.FieldByName("Number")
		if !f.IsValid() || !f.CanUint() || !v.FieldByName("SQLState").IsValid() {
			return 0, false
		}
		return f.Uint(), true
	})
}

// sqliteCode finds the method Code of *sqlite.Error (modernc), or the field
// ExtendedCode of sqlite3.Error (mattn).
func sqliteCode(err error) (int, bool) {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code(), true
	}
	code, ok := errorField(err, func(v reflect.Value) (uint64, bool) {
		f := v.FieldByName("ExtendedCode")
		if !f.IsValid() || !f.CanInt() {
			return 0, false
		}
		return uint64(f.Int()), true
	})
	return int(code), ok
}

// errorField walks the wrapped errors and asks get of each one that is a struct.
func errorField(err error, get func(reflect.Value) (uint64, bool)) (uint64, bool) {
	if err == nil {
		return 0, false
	}
	v := reflect.Indirect(reflect.ValueOf(err))
	if v.Kind() == reflect.Struct {
		if n, ok := get(v); ok {
			return n, true
		}
	}
	switch e := err.(type) { //nolint:errorlint // this is the walk itself
	case interface{ Unwrap() error }:
		return errorField(e.Unwrap(), get)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if n, ok := errorField(inner, get); ok {
				return n, true
			}
		}
	}
	return 0, false
}
