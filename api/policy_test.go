package api

import (
	"testing"

	"google.golang.org/grpc"
)

// TestEveryMethodHasAPolicy compares the policy table with what both servers
// have registered: a method without an entry is denied at run time, and this
// test fails before.
func TestEveryMethodHasAPolicy(t *testing.T) {
	server, err := NewServer(Config{}, newFake(), newFakeCluster())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(within(t))
	registered := make(map[string]bool)
	for _, s := range []*grpc.Server{server.grpc, server.inner} {
		for service, info := range s.GetServiceInfo() {
			for _, method := range info.Methods {
				name := "/" + service + "/" + method.Name
				registered[name] = true
				rule, ok := policies[name]
				if !ok || rule.access == denied {
					t.Errorf("%s has no policy", name)
				}
				if rule.forward && (method.IsClientStream || method.IsServerStream) {
					t.Errorf("%s is a stream, which is not forwarded", name)
				}
			}
		}
	}
	if len(registered) < 20 {
		t.Errorf("only %d methods are registered", len(registered))
	}
	for name := range policies {
		if !registered[name] {
			t.Errorf("%s has a policy and is not served", name)
		}
	}
	for name, r := range policies {
		if (r == policy{}) {
			t.Errorf("%s: an empty policy denies", name)
		}
	}
}

// TestMethodWithoutPolicyIsDenied: the table is an allow list.
func TestMethodWithoutPolicyIsDenied(t *testing.T) {
	const method = "/quorate.v1.TransactionService/Begin"
	n := serve(t, Config{}, newFake(), newFakeCluster())
	saved := policies[method]
	delete(policies, method)
	defer func() { policies[method] = saved }()
	if _, err := handlers()[0].call(within(t), n); ReasonOf(err) != ReasonUnimplemented {
		t.Errorf("answered %v", err)
	}
}
