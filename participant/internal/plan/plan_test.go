package plan

import (
	"reflect"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/protobuf/proto"
)

// notSent are the settings that stay with the initiator.
var notSent = map[string]bool{"WaitsForTheEnd": true}

// Every setting reaches the request, alone and as it is: those to come too.
func TestEverySettingIsSent(t *testing.T) {
	var sent []*quoratev1.BeginRequest
	each(t, reflect.TypeFor[Settings](), func(name string, set func(Settings) Settings) {
		got := func(s Settings) *quoratev1.BeginRequest { return s.Begin(quoratev1.Mode_MODE_SAGA) }
		with := got(set(Settings{}))
		if changed := !proto.Equal(with, got(Settings{})); changed == notSent[name] {
			t.Errorf("%s: the request differs from one without it: %v", name, changed)
		}
		for _, other := range sent {
			if !notSent[name] && proto.Equal(with, other) {
				t.Errorf("%s says what another setting says: %v", name, with)
			}
		}
		sent = append(sent, with)
	})
}

// each calls try with a setter of each field of Settings, those of its structs one by one.
func each(t *testing.T, of reflect.Type, try func(name string, set func(Settings) Settings), path ...int) {
	t.Helper()
	for i := range of.NumField() {
		field, at := of.Field(i), append(append([]int{}, path...), i)
		if field.Type.Kind() == reflect.Struct {
			each(t, field.Type, try, at...)
			continue
		}
		try(field.Name, func(s Settings) Settings {
			fill(t, reflect.ValueOf(&s).Elem().FieldByIndex(at))
			return s
		})
	}
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case string:
		v.SetString("x")
	case []byte:
		v.SetBytes([]byte("x"))
	case time.Duration:
		v.SetInt(int64(1500 * time.Millisecond))
	case uint32:
		v.SetUint(7)
	case bool:
		v.SetBool(true)
	case map[string]string:
		v.Set(reflect.ValueOf(map[string]string{"x": "y"}))
	default:
		t.Fatalf("a setting of type %v: teach this test to fill it", v.Type())
	}
}

// What a request holds is not the caller's map: a second Begin says the same.
func TestANameLeavesTheLabelsAlone(t *testing.T) {
	s := Settings{Name: "order", Labels: map[string]string{"a": "b"}}
	first := s.Begin(quoratev1.Mode_MODE_SAGA)
	if len(s.Labels) != 1 || first.GetLabels()["name"] != "order" || first.GetLabels()["a"] != "b" || !proto.Equal(first, s.Begin(quoratev1.Mode_MODE_SAGA)) {
		t.Errorf("settings %v, request %v", s.Labels, first.GetLabels())
	}
}

// An unset retry is none, so that the node's stands.
func TestNothingSetIsNothingSaid(t *testing.T) {
	if b := (&Settings{}).Begin(quoratev1.Mode_MODE_TCC); b.GetPlan().GetRetry() != nil || b.GetTimeout() != nil || b.GetPlan().GetDelay() != nil || b.GetLabels() != nil {
		t.Errorf("%v", b)
	}
}
