package message_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant/message"
)

// Every option is what the cluster holds of the message, whether it was begun or sent.
func TestMessage_EveryOptionArrives(t *testing.T) {
	s := newShop(t)
	for _, how := range []string{"begin", "send"} {
		gid, err := s.Client.NewGID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := message.New(s.Client, s.URL("check-back"), message.GID(gid), message.Name("news"), message.Key(how), message.Delay(time.Hour),
			message.CheckBackAfter(2*time.Hour), message.Retry(3*time.Second, 5*time.Second), message.CallTimeout(7*time.Second),
			message.Concurrency(11), message.Header("Tenant", "acme")).
			Add(s.URL("one"), []byte("1"), message.ID("first")).
			Add(s.URL("two"), []byte("2")).
			Add(s.URL("three"), []byte("3"), message.After("02", "first"))
		if how == "send" {
			err = m.Send(within(t))
		} else {
			_, err = m.Begin(within(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Client.Get(t.Context(), string(gid))
		if err != nil {
			t.Fatal(err)
		}
		plan := &quoratev1.Plan{
			Retry:    &quoratev1.Retry{Interval: durationpb.New(3 * time.Second), IntervalMax: durationpb.New(5 * time.Second), CallTimeout: durationpb.New(7 * time.Second)},
			Callback: s.URL("check-back"), CallbackAfter: durationpb.New(2 * time.Hour), ConcurrencyMax: 11, Delay: durationpb.New(time.Hour),
			Headers: map[string]string{"Tenant": "acme"},
		}
		if !proto.Equal(got.GetPlan(), plan) || got.GetKey() != how || got.GetLabels()["name"] != "news" {
			t.Errorf("%s: key %q, labels %v, plan %v,\nwant %v", how, got.GetKey(), got.GetLabels(), got.GetPlan(), plan)
		}
		receivers := []*quoratev1.BranchSpec{
			{Id: "first", Endpoint: s.URL("one"), Payload: []byte("1")}, {Id: "02", Endpoint: s.URL("two"), Payload: []byte("2")},
			{Id: "03", Endpoint: s.URL("three"), Payload: []byte("3"), After: []string{"02", "first"}},
		}
		have := make(map[string]*quoratev1.BranchSpec)
		for _, b := range got.GetBranches() {
			have[b.GetSpec().GetId()] = b.GetSpec()
		}
		for _, want := range receivers {
			if !proto.Equal(have[want.GetId()], want) || len(have) != len(receivers) {
				t.Errorf("%s: the receiver is %v,\nwant %v", how, have[want.GetId()], want)
			}
		}
	}
}
