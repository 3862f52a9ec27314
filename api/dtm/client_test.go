package dtm

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// reply is an HTTP answer as DTM's clients look at it.
type reply struct {
	status int
	body   string
}

// text is a member of the JSON answer, decoded.
func (r reply) text(name string) string {
	var o map[string]any
	_ = json.Unmarshal([]byte(r.body), &o)
	s, _ := o[name].(string)
	return s
}

// honest fails the test where an answer holds one of the words, or uses one of
// the statuses, without meaning it.
func (r reply) honest(t *testing.T, what string) {
	t.Helper()
	failure, ongoing := strings.Contains(r.body, wordFailure), strings.Contains(r.body, wordOngoing)
	switch r.status {
	case http.StatusConflict:
		if !failure || ongoing || r.text("dtm_result") != wordFailure && r.text("jsonrpc") == "" {
			t.Errorf("%s: 409 with %s", what, r.body)
		}
	case http.StatusTooEarly:
		if failure || !ongoing || r.text("dtm_result") != wordOngoing && r.text("jsonrpc") == "" {
			t.Errorf("%s: 425 with %s", what, r.body)
		}
	default:
		if failure || ongoing {
			t.Errorf("%s: status %d, and the body holds a word that it does not mean: %s", what, r.status, r.body)
		}
	}
	if !json.Valid([]byte(r.body)) {
		t.Errorf("%s: no JSON: %s", what, r.body)
	}
}

func (s *stand) do(method, at string, body any) reply {
	s.t.Helper()
	var sent io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, at, sent)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.web.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{answer.StatusCode, strings.TrimSpace(string(text))}
}

func (s *stand) post(name string, body any) reply {
	s.t.Helper()
	return s.do("POST", s.url+name, body)
}

func (s *stand) get(name string, pairs ...string) reply {
	s.t.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return s.do("GET", s.url+name+"?"+q.Encode(), nil)
}

// wants compares an answer.
func (r reply) wants(t *testing.T, status int, part string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.body, part) {
		t.Errorf("answered %d %s, want %d with %q", r.status, r.body, status, part)
	}
}
