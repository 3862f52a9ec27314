package participant

import "strings"

// scanner finds transaction control in SQL text. A branch's transaction is begun
// and ended by the proxy alone: text that does so behind its back is refused.
//
// It is a tokenizer, not a parser, and it is the first of two nets: what slips
// through (a procedure's COMMIT, say) is caught by the server, which refuses it
// inside XA, or by the evidence row's check that the transaction is still the one
// that BeginTx began.
type scanner struct {
	text  string
	mysql bool // backslash escapes, # comments, executable comments, ` quotes
}

// statements is what the proxy must know of SQL text.
type statements struct {
	// control is the first statement that begins or ends a transaction, in upper case
	// ("COMMIT"), or "" when there is none. Savepoints are no control: they begin and
	// end nothing.
	control string
	// schema is set when a statement changes more than rows.
	schema bool
	// change is set when the only statement inserts, updates or deletes rows, and adds
	// when it inserts, removes when it deletes.
	change, adds, removes bool
	// calls is set when a parenthesis opens: functions may be called.
	calls bool
	// sets is set when a statement may change the session's settings.
	sets bool
}

// query is the same as a query: nothing will say how many rows it has changed.
func (s statements) query() statements {
	s.change, s.adds, s.removes = false, false, false
	return s
}

// scanStatements reads SQL text of one or more statements.
func scanStatements(text string, mysql bool) (found statements) {
	s := &scanner{text: text, mysql: mysql}
	var words []string // the current statement's
	n := 0
	for {
		token := s.next()
		if token != "" && token != ";" {
			found.calls = found.calls || token == "("
			// Two words tell, but for SET, whose list may go on.
			const wordsMax = 64
			if len(words) < wordsMax {
				words = append(words, token)
			}
			continue
		}
		if found.control == "" {
			found.control = control(words, mysql)
		}
		found.schema = found.schema || (len(words) > 0 && schemaWords[words[0]])
		if len(words) > 0 {
			n++
			found.change = n == 1 && changeWords[words[0]]
			found.adds = found.change && (words[0] == "INSERT" || words[0] == "REPLACE")
			found.removes = found.change && words[0] == "DELETE"
			found.sets = found.sets || !found.change && words[0] != "SELECT"
		}
		if token == "" {
			return found
		}
		words = words[:0]
	}
}

// schemaWords open the statements that change more than rows.
var schemaWords = map[string]bool{
	"ALTER": true, "ANALYZE": true, "ATTACH": true, "CREATE": true, "DETACH": true, "DROP": true, "REINDEX": true, "VACUUM": true,
}

// changeWords open the statements that change rows, and whose count of rows says
// whether they did.
var changeWords = map[string]bool{"INSERT": true, "UPDATE": true, "DELETE": true, "REPLACE": true}

// control judges one statement by its words.
func control(words []string, mysql bool) string {
	at := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch at(0) {
	case "BEGIN":
		return at(0)
	case "COMMIT", "ABORT":
		return at(0)
	case "END":
		return at(0)
	case "START":
		if at(1) == "TRANSACTION" {
			return "START TRANSACTION"
		}
	case "ROLLBACK":
		// ROLLBACK [WORK|TRANSACTION] TO [SAVEPOINT] name keeps the transaction.
		if at(1) == "TO" || ((at(1) == "WORK" || at(1) == "TRANSACTION") && at(2) == "TO") {
			return ""
		}
		return at(0)
	case "PREPARE":
		// PREPARE TRANSACTION 'id'; PREPARE transaction AS ... names a statement.
		if at(1) == "TRANSACTION" && at(2) == "'" {
			return "PREPARE TRANSACTION"
		}
	case "XA":
		if at(1) != "RECOVER" {
			return strings.TrimSpace("XA " + at(1))
		}
	case "SET":
		if mysql {
			for _, w := range words[1:] {
				if w == "AUTOCOMMIT" {
					return "SET AUTOCOMMIT"
				}
			}
		}
	}
	return ""
}

// next returns the next token: a word in upper case, ";", "'" for any string
// constant, `"` for any quoted identifier, or another character as it stands.
// "" is the end.
func (s *scanner) next() string {
	for s.text != "" {
		c := s.text[0]
		switch {
		case c <= ' ':
			s.text = s.text[1:]
		case s.startsLineComment():
			s.skipLine()
		case strings.HasPrefix(s.text, "/*"):
			s.skipComment()
		// The server runs the inside of an executable comment, so it is read as
		// text; the end mark of one remains.
		case s.mysql && strings.HasPrefix(s.text, "*/"):
			s.text = s.text[2:]
		case c == '\'', c == '"':
			s.skipQuoted(c, s.mysql)
			return string(c)
		case s.mysql && c == '`':
			s.skipQuoted(c, false)
			return `"`
		case !s.mysql && c == '$' && s.skipDollar():
			return "'"
		case isWordByte(c):
			return s.word()
		default:
			s.text = s.text[1:]
			return string(c)
		}
	}
	return ""
}

// startsLineComment reports -- and MySQL's #. MySQL wants a blank after --:
// `5--1` is a sum there.
func (s *scanner) startsLineComment() bool {
	if s.mysql && s.text[0] == '#' {
		return true
	}
	return strings.HasPrefix(s.text, "--") && (!s.mysql || len(s.text) == 2 || s.text[2] <= ' ')
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 ||
		'0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func (s *scanner) word() string {
	n := 1
	for n < len(s.text) && isWordByte(s.text[n]) {
		n++
	}
	w := s.text[:n]
	s.text = s.text[n:]
	// E'..' is Postgres' string with backslash escapes; the word is its prefix.
	if !s.mysql && (w == "E" || w == "e") && strings.HasPrefix(s.text, "'") {
		s.skipQuoted('\'', true)
		return "'"
	}
	return strings.ToUpper(w)
}

func (s *scanner) skipLine() {
	if i := strings.IndexByte(s.text, '\n'); i >= 0 {
		s.text = s.text[i+1:]
		return
	}
	s.text = ""
}

// skipComment skips /* */, which Postgres nests. Of an executable comment
// (/*!50000 ... */, MariaDB's /*M! ... */) only the opening is skipped.
func (s *scanner) skipComment() {
	s.text = s.text[2:]
	if s.mysql {
		inside := s.text
		if rest, ok := strings.CutPrefix(inside, "M!"); ok {
			s.text = strings.TrimLeft(rest, "0123456789")
			return
		}
		if rest, ok := strings.CutPrefix(inside, "!"); ok {
			s.text = strings.TrimLeft(rest, "0123456789")
			return
		}
		if i := strings.Index(inside, "*/"); i >= 0 {
			s.text = inside[i+2:]
			return
		}
		s.text = ""
		return
	}
	for depth := 1; s.text != "" && depth > 0; {
		switch {
		case strings.HasPrefix(s.text, "/*"):
			depth++
			s.text = s.text[2:]
		case strings.HasPrefix(s.text, "*/"):
			depth--
			s.text = s.text[2:]
		default:
			s.text = s.text[1:]
		}
	}
}

// skipQuoted skips from the opening quote past the closing one. A doubled quote
// is taken as an end and a beginning: what it holds is skipped all the same.
func (s *scanner) skipQuoted(quote byte, backslash bool) {
	for i := 1; i < len(s.text); i++ {
		switch {
		case backslash && s.text[i] == '\\':
			i++
		case s.text[i] == quote:
			if i+1 < len(s.text) && s.text[i+1] == quote {
				i++
				continue
			}
			s.text = s.text[i+1:]
			return
		}
	}
	s.text = "" // unterminated: the server will say so
}

// skipDollar skips a dollar-quoted constant ($tag$...$tag$) and reports whether
// there was one; $1 is a parameter.
func (s *scanner) skipDollar() bool {
	end := strings.IndexByte(s.text[1:], '$')
	if end < 0 {
		return false
	}
	tag := s.text[:end+2]
	for i, c := range []byte(tag[1 : len(tag)-1]) {
		if !isWordByte(c) || c == '$' || i == 0 && '0' <= c && c <= '9' {
			return false
		}
	}
	body := s.text[len(tag):]
	if i := strings.Index(body, tag); i >= 0 {
		s.text = body[i+len(tag):]
	} else {
		s.text = ""
	}
	return true
}
