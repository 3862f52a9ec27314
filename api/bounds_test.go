package api

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// TestCompressedMessagesAreRefused: a gzip bomb is not unpacked. The frame is
// written by hand, because no client here knows how to compress.
func TestCompressedMessagesAreRefused(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	message, err := proto.Marshal(&quoratev1.BeginRequest{Key: strings.Repeat("x", 100<<20)})
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(message); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	if packed.Len() > MessageBytesMax {
		t.Fatalf("the bomb has %d bytes and would be refused for its size", packed.Len())
	}
	frame := binary.BigEndian.AppendUint32([]byte{1}, uint32(packed.Len()))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)

	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, "http://"+n.grpc+"/quorate.v1.TransactionService/Begin",
		io.MultiReader(bytes.NewReader(frame), &packed))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Grpc-Encoding", "gzip")
	req.Header.Set("Te", "trailers")
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	status := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
	if status != "12" || c.called("Begin") != 0 {
		t.Errorf("answered grpc-status %q, begun %d times; want 12, UNIMPLEMENTED", status, c.called("Begin"))
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
		t.Errorf("%d MiB were allocated for it", grown>>20)
	}
}
