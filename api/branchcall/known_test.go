package branchcall

import (
	"fmt"
	"strings"
	"testing"
)

// TestEndpointsAreTakenApartOnce: what is known of an endpoint is what reading it anew
// says, the refused are refused each time, and only so much is kept.
func TestEndpointsAreTakenApartOnce(t *testing.T) {
	allow, err := ParseAllow("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{"grpc://127.0.0.1:1/a.B/C", "http://127.0.0.1:80/x?y=z"} {
		first, err := allow.target(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		again, err := allow.target(endpoint)
		if err != nil || again != first { // the same URL, not one that is like it
			t.Errorf("%s: %+v, then %+v, %v", endpoint, first, again, err)
		}
		if anew, err := allow.parse(endpoint); err != nil || *anew.url != *first.url || anew.server != first.server || anew.method != first.method {
			t.Errorf("%s: %+v is known, %+v is read, %v", endpoint, first, anew, err)
		}
	}
	for range 2 {
		if err := allow.Check("grpc://10.0.0.1:1/a.B/C"); err == nil {
			t.Error("an address that is not allowed passes")
		}
	}
	if n := len(allow.known.known); n != 2 {
		t.Errorf("%d are kept, want the two that are allowed", n)
	}
	long := "http://127.0.0.1/" + strings.Repeat("x", endpointKnownBytesMax)
	if err := allow.Check(long); err != nil {
		t.Error(err)
	}
	for i := range 2 * endpointsKnownMax {
		if err := allow.Check(fmt.Sprintf("http://127.0.0.1/%d", i)); err != nil {
			t.Fatal(err)
		}
		if len(allow.known.known) > endpointsKnownMax {
			t.Fatalf("%d are kept, want at most %d", len(allow.known.known), endpointsKnownMax)
		}
	}
	if _, kept := allow.known.known[long]; kept {
		t.Error("a long one is kept")
	}
}
