package dtm

import (
	"context"
	"strconv"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

const (
	limitDefault = 100
	limitMax     = 1000
	// scansMax bounds the native pages that one call reads: a filter that matches
	// nothing must not read for ever.
	scansMax = 100
)

// listing is what all asks for.
type listing struct {
	status, transType    string
	createdFrom, created time.Time // from, and before
	position             string
	limit                int
	unfinished           bool
}

// list reads a page: those begun over this wire that match. An empty next
// position is the end.
func (g *Gateway) list(ctx context.Context, ask listing) (page []*standing, next string, err error) {
	filter := &quoratev1.Filter{IncludeFinished: !ask.unfinished, States: statesOf(ask.status)}
	if mode, ok := modes[ask.transType]; ok {
		filter.Modes = []quoratev1.Mode{mode}
	}
	next = ask.position
	for range scansMax {
		answer, err := call(ctx, g, func(ctx context.Context, r *quoratev1.ListRequest) (*quoratev1.ListResponse, error) {
			return g.native.List(ctx, r)
		}, &quoratev1.ListRequest{PageSize: uint32(ask.limit - len(page)), PageToken: next, Filter: filter})
		if err != nil {
			return nil, "", err
		}
		for _, t := range answer.GetTransactions() {
			if s := (&standing{t}); ask.matches(s) {
				page = append(page, s)
			}
		}
		next = answer.GetNextPageToken()
		if next == "" || len(page) >= ask.limit {
			break
		}
	}
	return page, next, nil
}

func (ask listing) matches(s *standing) bool {
	began := s.GetBegan().GetWallTime().AsTime()
	switch {
	case s.transType() == "", ask.transType != "" && s.transType() != ask.transType:
		return false
	case ask.status != "" && s.status() != ask.status, ask.unfinished && s.finished():
		return false
	case !ask.createdFrom.IsZero() && began.Before(ask.createdFrom), !ask.created.IsZero() && began.After(ask.created):
		return false
	default:
		return true
	}
}

var modes = map[string]quoratev1.Mode{
	typeSaga: quoratev1.Mode_MODE_SAGA, typeTCC: quoratev1.Mode_MODE_TCC, typeXA: quoratev1.Mode_MODE_TCC,
	typeMessage: quoratev1.Mode_MODE_MESSAGE, typeWorkflow: quoratev1.Mode_MODE_WORKFLOW,
}

// statesOf is what a status can be; none for all.
func statesOf(status string) []quoratev1.State {
	switch status {
	case statusPrepared:
		return []quoratev1.State{quoratev1.State_STATE_ACTIVE}
	case statusSubmitted:
		return []quoratev1.State{quoratev1.State_STATE_SEALED, quoratev1.State_STATE_COMMITTING}
	case statusSucceed:
		return []quoratev1.State{quoratev1.State_STATE_COMMITTED}
	case statusAborting:
		return []quoratev1.State{quoratev1.State_STATE_ROLLING_BACK}
	case statusFailed: // or stopped, whatever had been decided
		return []quoratev1.State{quoratev1.State_STATE_ROLLED_BACK, quoratev1.State_STATE_COMMITTED}
	default:
		return nil
	}
}

// readListing reads all's parameters.
func readListing(get func(string) string) (listing, error) {
	ask := listing{status: get("status"), transType: get("transType"), position: get("position"), limit: limitDefault}
	var err error
	if ask.limit, err = readLimit(get("limit")); err != nil {
		return ask, err
	}
	if ask.status != "" && statesOf(ask.status) == nil {
		return ask, bad("status %q is none of prepared, submitted, aborting, succeed, failed", ask.status)
	}
	if _, ok := modes[ask.transType]; ask.transType != "" && !ok {
		return ask, bad("unknow trans type: %s", ask.transType)
	}
	if ask.createdFrom, err = readMillis("createTimeStart", get("createTimeStart")); err != nil {
		return ask, err
	}
	ask.created, err = readMillis("createTimeEnd", get("createTimeEnd"))
	return ask, err
}

func readLimit(text string) (int, error) {
	if text == "" {
		return limitDefault, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > limitMax {
		return 0, bad("limit %q is no number from 1 to %d", text, limitMax)
	}
	return limit, nil
}

func readMillis(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 || ms > 1<<50 {
		return time.Time{}, bad("%s %q is no time in milliseconds", name, text)
	}
	return time.UnixMilli(ms), nil
}

// resetCronTime calls now what would wait for longer than timeout.
func (g *Gateway) resetCronTime(ctx context.Context, timeout time.Duration, limit int) (count int, remaining bool, err error) {
	position := ""
	for {
		page, next, err := g.list(ctx, listing{limit: limitMax, position: position, unfinished: true})
		if err != nil {
			return count, false, err
		}
		for _, s := range page {
			if at := s.row().NextCronTime; at == nil || time.Until(*at) <= timeout {
				continue
			}
			if count == limit {
				return count, true, nil
			}
			if err := g.retry(ctx, s.GetGid()); err != nil {
				return count, true, err
			}
			count++
		}
		if position = next; next == "" {
			return count, false, nil
		}
	}
}

// resetNextCronTime calls now what a transaction waits with.
func (g *Gateway) resetNextCronTime(ctx context.Context, gid string) error {
	stands, err := g.find(ctx, gid)
	if err != nil {
		return unknownGid(err, gid)
	}
	if err := stands.mustBeDTMs(); err != nil {
		return err
	}
	return g.retry(ctx, stands.GetGid())
}

// retry calls now what waits for its back-off. Something that ended meanwhile
// waits for nothing.
func (g *Gateway) retry(ctx context.Context, transaction string) error {
	_, err := call(ctx, g, func(ctx context.Context, r *quoratev1.RetryRequest) (*quoratev1.RetryResponse, error) {
		return g.native.Retry(ctx, r)
	}, &quoratev1.RetryRequest{Transaction: transaction})
	return err
}

// forceStop ends a transaction whatever its branches did; it is audited.
func (g *Gateway) forceStop(ctx context.Context, gid, operator string) error {
	stands, err := g.find(ctx, gid)
	if err != nil {
		return unknownGid(err, gid)
	}
	if err := stands.mustBeDTMs(); err != nil {
		return err
	}
	if !stands.finished() {
		_, err := call(ctx, g, func(ctx context.Context, r *quoratev1.StopRequest) (*quoratev1.StopResponse, error) {
			return g.native.Stop(ctx, r)
		}, &quoratev1.StopRequest{Transaction: keyRef(gid), Operator: operator, Reason: "forceStop over DTM's protocol"})
		if reasonOf(err) != reasonAlreadyDecided {
			return err
		}
		if stands, err = g.find(ctx, gid); err != nil {
			return err
		}
	}
	return failed("global transaction force stop error. status: %s. error:", stands.status())
}
