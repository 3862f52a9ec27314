package dtm

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// echo is a connection to services that refuse everything in the caller's words.
type echo struct{ text string }

func (e echo) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Aborted, e.text)
}

func (e echo) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Aborted, e.text)
}

// FuzzBodies: whatever is posted, nothing panics, and no answer says a word that
// it does not mean.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"gid":"FAILURE","trans_type":"saga","steps":[{"action":"http://x/ONGOING"}],"payloads":["{}"]}`,
		`{"gid":"g","trans_type":"saga","concurrent":true,"custom_data":"{\"orders\":{\"1\":[0]}}","steps":[{},{}],"payloads":["",""]}`,
		`{"gid":"g","trans_type":"workflow","custom_data":"{\"name\":\"FAILURE\",\"data\":\"AA==\"}","req_extra":{"status":"succeed","result":"!"}}`,
		`{"gid":"g","trans_type":"tcc","branch_id":"01","confirm":"ONGOING","data":7}`,
		`{"jsonrpc":"2.0","id":"FAILURE","method":"submit","params":{"gid":"g","trans_type":"msg"}}`,
		`FAILURE`, `[]`, `{"gid":"\ud800","trans_type":"msg"}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var log bytes.Buffer
		g := New(Config{Conn: echo{"no: " + body + " FAILURE ONGOING"}, HoldMax: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for _, path := range []string{
			Prefix + "prepare", Prefix + "submit", Prefix + "abort", Prefix + "registerBranch", Prefix + "prepareWorkflow",
			Prefix + "forceStop", Prefix + "resetNextCronTime", "/api/json-rpc",
		} {
			w := httptest.NewRecorder()
			g.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
			if text := w.Body.String(); strings.Contains(text, wordFailure) || strings.Contains(text, wordOngoing) || w.Code == 409 || w.Code == 425 {
				t.Errorf("%s answered %d %s", path, w.Code, text)
			}
			if log.Len() > 0 {
				t.Errorf("%s: %s", path, &log)
			}
		}
	})
}
