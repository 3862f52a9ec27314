package frames

import (
	"slices"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Bounds of one message of a session, in both directions.
const (
	// SessionFramesMax is the number of frames in one message.
	SessionFramesMax = 256
	// SessionBytesMax is the size up to which frames are put together. It is below what
	// either end takes in.
	SessionBytesMax = 256 << 10
)

// SessionWindowMax is how many deliveries are outstanding on a session at the most: both
// ends have room for so many, or the narrower one would decide. With 256 the sessions of a
// busy cluster ran out of step, and thousands of transactions stood open (coordinator has
// the test).
const SessionWindowMax = 1024

// Take is how many frames may go into one message to somebody who said that it takes so many.
func Take(batchMax uint32) int { return int(max(1, min(batchMax, SessionFramesMax))) }

// PackRequests makes one message of a participant's frames.
func PackRequests(list []*quoratev1.SessionRequest) *quoratev1.SessionRequest {
	if len(list) == 1 {
		return list[0]
	}
	return &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Batch{Batch: &quoratev1.SessionRequestBatch{Frames: list}}}
}

// Requests returns the frames of one message.
func Requests(message *quoratev1.SessionRequest) []*quoratev1.SessionRequest {
	if batch := message.GetBatch(); batch != nil {
		return batch.GetFrames()
	}
	return []*quoratev1.SessionRequest{message}
}

// PackResponses makes one message of the leader's frames, which carry no headers yet.
// header is asked once, where an answer is among them: it is as new as all of them.
func PackResponses(list []*quoratev1.SessionResponse, header func() *quoratev1.ResponseHeader) *quoratev1.SessionResponse {
	var h *quoratev1.ResponseHeader
	if slices.ContainsFunc(list, headed) {
		h = header()
	}
	if len(list) == 1 {
		setHeader(list[0], h)
		return list[0]
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Batch{Batch: &quoratev1.SessionResponseBatch{Header: h, Frames: list}}}
}

// headed tells of a frame that has a header.
func headed(frame *quoratev1.SessionResponse) bool {
	switch frame.GetFrame().(type) {
	case *quoratev1.SessionResponse_Deliver, *quoratev1.SessionResponse_VouchFor, *quoratev1.SessionResponse_Error:
		return false
	}
	return true
}

// Responses returns the frames of one message, each with its header. One is not taken
// for a frame: a batch within a batch.
func Responses(message *quoratev1.SessionResponse) []*quoratev1.SessionResponse {
	batch := message.GetBatch()
	if batch == nil {
		return []*quoratev1.SessionResponse{message}
	}
	for _, frame := range batch.GetFrames() {
		setHeader(frame, batch.GetHeader())
	}
	return batch.GetFrames()
}

// setHeader gives an answer its header. What the leader says unasked has none, but for
// its heartbeat, and neither has an error.
func setHeader(frame *quoratev1.SessionResponse, header *quoratev1.ResponseHeader) {
	switch f := frame.GetFrame().(type) {
	case *quoratev1.SessionResponse_Attached:
		if f.Attached != nil {
			f.Attached.Header = header
		}
	case *quoratev1.SessionResponse_Enlist:
		if f.Enlist != nil {
			f.Enlist.Header = header
		}
	case *quoratev1.SessionResponse_Vote:
		if f.Vote != nil {
			f.Vote.Header = header
		}
	case *quoratev1.SessionResponse_Report:
		if f.Report != nil {
			f.Report.Header = header
		}
	case *quoratev1.SessionResponse_Inquire:
		if f.Inquire != nil {
			f.Inquire.Header = header
		}
	case *quoratev1.SessionResponse_Vouched:
		if f.Vouched != nil {
			f.Vouched.Header = header
		}
	case *quoratev1.SessionResponse_Heartbeat:
		if f.Heartbeat != nil {
			f.Heartbeat.Header = header
		}
	}
}

// HeaderOf is the header of whatever the frame is, or nil.
func HeaderOf(frame *quoratev1.SessionResponse) *quoratev1.ResponseHeader {
	switch f := frame.GetFrame().(type) {
	case *quoratev1.SessionResponse_Attached:
		return f.Attached.GetHeader()
	case *quoratev1.SessionResponse_Enlist:
		return f.Enlist.GetHeader()
	case *quoratev1.SessionResponse_Vote:
		return f.Vote.GetHeader()
	case *quoratev1.SessionResponse_Report:
		return f.Report.GetHeader()
	case *quoratev1.SessionResponse_Inquire:
		return f.Inquire.GetHeader()
	case *quoratev1.SessionResponse_Vouched:
		return f.Vouched.GetHeader()
	case *quoratev1.SessionResponse_Heartbeat:
		return f.Heartbeat.GetHeader()
	}
	return nil
}
