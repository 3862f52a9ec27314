package participant

import (
	"testing"

	"google.golang.org/grpc"
)

// A node that goes on naming a leader that is gone, as one does that was removed
// from the cluster, must not keep the client from the nodes that come after it.
func TestNodes_AWrongHintStarvesNobody(t *testing.T) {
	n := newNodes([]string{"dead", "deaf", "leads"}, func(string) (*grpc.ClientConn, error) { return nil, nil })
	n.lead("dead")
	var asked []string
	for range 8 {
		address, _, err := n.pick()
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, address)
		switch address {
		case "dead":
			n.failed(address, "")
		case "deaf":
			n.failed(address, "dead")
		case "leads":
			return
		}
	}
	t.Errorf("asked %v, and never the third node", asked)
}

// Two nodes that name each other starve nobody either.
func TestNodes_HintsInACircleStarveNobody(t *testing.T) {
	n := newNodes([]string{"a", "b", "leads"}, func(string) (*grpc.ClientConn, error) { return nil, nil })
	names := map[string]string{"a": "b", "b": "a"}
	var asked []string
	for range 12 {
		address, _, err := n.pick()
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, address)
		if address == "leads" {
			return
		}
		n.failed(address, names[address])
	}
	t.Errorf("asked %v, and never the third node", asked)
}
