package frames

import (
	"testing"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// responses are one of each kind, without headers.
func responses() []*quoratev1.SessionResponse {
	return []*quoratev1.SessionResponse{
		{Id: 1, Frame: &quoratev1.SessionResponse_Attached{Attached: &quoratev1.Attached{}}},
		{Id: 2, Frame: &quoratev1.SessionResponse_Enlist{Enlist: &quoratev1.EnlistResponse{}}},
		{Id: 3, Frame: &quoratev1.SessionResponse_Vote{Vote: &quoratev1.VoteResponse{}}},
		{Id: 4, Frame: &quoratev1.SessionResponse_Report{Report: &quoratev1.ReportResponse{}}},
		{Id: 5, Frame: &quoratev1.SessionResponse_Inquire{Inquire: &quoratev1.InquireResponse{}}},
		{Id: 6, Frame: &quoratev1.SessionResponse_Vouched{Vouched: &quoratev1.Vouched{}}},
		{Id: 7, Frame: &quoratev1.SessionResponse_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}},
		{Frame: &quoratev1.SessionResponse_Deliver{Deliver: &quoratev1.Deliver{Gid: "g"}}},
		{Frame: &quoratev1.SessionResponse_VouchFor{VouchFor: &quoratev1.VouchFor{}}},
		{Id: 8, Frame: &quoratev1.SessionResponse_Error{Error: &quoratev1.SessionError{}}},
	}
}

// TestEveryAnswerHasItsHeader, alone and in a batch: whoever takes a frame out finds it
// as if it had come alone.
func TestEveryAnswerHasItsHeader(t *testing.T) {
	header := func() *quoratev1.ResponseHeader { return &quoratev1.ResponseHeader{ClockMs: 7, ClusterId: "c"} }
	over := func(message *quoratev1.SessionResponse) []*quoratev1.SessionResponse {
		wire, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		heard := new(quoratev1.SessionResponse)
		if err := proto.Unmarshal(wire, heard); err != nil {
			t.Fatal(err)
		}
		return Responses(heard)
	}
	var alone []*quoratev1.SessionResponse
	for _, frame := range responses() {
		alone = append(alone, over(PackResponses([]*quoratev1.SessionResponse{frame}, header))...)
	}
	together := over(PackResponses(responses(), header))
	if len(alone) != 10 || len(together) != 10 {
		t.Fatalf("%d and %d frames", len(alone), len(together))
	}
	for i := range alone {
		if !proto.Equal(alone[i], together[i]) {
			t.Errorf("alone %v, in a batch %v", alone[i], together[i])
		}
		if has := HeaderOf(alone[i]).GetClockMs() == 7; has != (i < 7) {
			t.Errorf("%v: header %v", alone[i], has)
		}
	}
}

// TestDeliveriesNeedNoHeader: to make one costs a look at the state.
func TestDeliveriesNeedNoHeader(t *testing.T) {
	PackResponses(responses()[7:], func() *quoratev1.ResponseHeader {
		t.Error("a header was made for frames that have none")
		return nil
	})
}

func TestRequestsComeOutAsTheyWentIn(t *testing.T) {
	one, two := &quoratev1.SessionRequest{Id: 1}, &quoratev1.SessionRequest{Id: 2}
	if got := PackRequests([]*quoratev1.SessionRequest{one}); got != one || len(Requests(got)) != 1 || Requests(got)[0] != one {
		t.Errorf("one frame became %v", got)
	}
	if got := Requests(PackRequests([]*quoratev1.SessionRequest{one, two})); len(got) != 2 || got[0] != one || got[1] != two {
		t.Errorf("two frames became %v", got)
	}
}

func TestTakeIsBounded(t *testing.T) {
	for said, want := range map[uint32]int{0: 1, 1: 1, 8: 8, SessionFramesMax: SessionFramesMax, 1 << 31: SessionFramesMax} {
		if got := Take(said); got != want {
			t.Errorf("of somebody who takes %d frames: %d, want %d", said, got, want)
		}
	}
}

// FuzzFrames: whatever decodes is taken apart without a panic.
func FuzzFrames(f *testing.F) {
	for _, frame := range responses() {
		wire, _ := proto.Marshal(frame)
		f.Add(wire)
	}
	wire, _ := proto.Marshal(PackResponses(responses(), func() *quoratev1.ResponseHeader { return &quoratev1.ResponseHeader{} }))
	f.Add(wire)
	f.Fuzz(func(t *testing.T, wire []byte) {
		var heard quoratev1.SessionResponse
		if proto.Unmarshal(wire, &heard) == nil {
			for _, frame := range Responses(&heard) {
				HeaderOf(frame)
			}
		}
		var said quoratev1.SessionRequest
		if proto.Unmarshal(wire, &said) == nil {
			Requests(&said)
		}
	})
}
