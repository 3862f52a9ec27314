package fence

import (
	"database/sql"
	"errors"
	"reflect"
	"strings"
)

// fault says what a database's error means to the fence's own statements. Drivers are
// not imported: their errors are told apart by the methods and fields that they are known
// for.
type fault int

const (
	// faultOther is any other error, or none.
	faultOther fault = iota
	// faultWait: others hold what is needed, or were faster: ask again.
	faultWait
	// faultNoTable: the table is not there, or not whole.
	faultNoTable
)

// SQLSTATEs of Postgres (its manual, appendix A).
var postgresFaults = map[string]fault{
	"55P03": faultWait,    // lock_not_available
	"40P01": faultWait,    // deadlock_detected
	"40001": faultWait,    // serialization_failure
	"42P01": faultNoTable, // undefined_table
}

// Error numbers of MySQL and MariaDB (mysqld_error.h).
var mysqlFaults = map[uint64]fault{
	1205: faultWait,    // ER_LOCK_WAIT_TIMEOUT
	1213: faultWait,    // ER_LOCK_DEADLOCK
	1020: faultWait,    // ER_CHECKREAD: the snapshot is older than the row
	1146: faultNoTable, // ER_NO_SUCH_TABLE
}

// Primary result codes of SQLite (sqlite3.h).
const (
	sqliteBusy   = 5
	sqliteLocked = 6
)

func faultOf(err error) fault {
	if err == nil {
		return faultOther
	}
	if errors.Is(err, sql.ErrNoRows) {
		return faultNoTable // the floor's row is a part of the table
	}
	var state interface{ SQLState() string } // pgx, lib/pq
	if errors.As(err, &state) {
		return postgresFaults[state.SQLState()]
	}
	var coded interface{ Code() int } // modernc's *sqlite.Error
	if errors.As(err, &coded) {
		return sqliteFault(coded.Code(), err)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		v := reflect.Indirect(reflect.ValueOf(e))
		if v.Kind() != reflect.Struct {
			continue
		}
		if f := v.FieldByName("Number"); f.IsValid() && f.CanUint() { // *mysql.MySQLError
			return mysqlFaults[f.Uint()]
		}
		if f := v.FieldByName("ExtendedCode"); f.IsValid() && f.CanInt() { // mattn's sqlite3.Error
			return sqliteFault(int(f.Int()), err)
		}
	}
	return faultOther
}

func sqliteFault(code int, err error) fault {
	switch {
	case code&0xff == sqliteBusy || code&0xff == sqliteLocked:
		return faultWait
	case strings.Contains(err.Error(), "no such table"):
		return faultNoTable
	}
	return faultOther
}
