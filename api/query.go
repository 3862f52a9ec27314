package api

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// strictQuery reads query parameters into a request and refuses those that it
// has no field for: a filter with a typing error must not list everything.
type strictQuery struct {
	runtime.DefaultQueryParser
}

// Parse implements runtime.QueryParameterParser.
func (q *strictQuery) Parse(msg proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	for name := range values {
		if !hasField(msg.ProtoReflect().Descriptor(), name) {
			return fmt.Errorf("the parameter %.64q is unknown", name)
		}
	}
	return q.DefaultQueryParser.Parse(msg, values, filter)
}

// hasField tells whether a path such as filter.labels[color] leads to a field.
func hasField(message protoreflect.MessageDescriptor, path string) bool {
	name, rest, deeper := strings.Cut(path, ".")
	plain, _, indexed := strings.Cut(name, "[")
	field := message.Fields().ByTextName(plain)
	if field == nil {
		field = message.Fields().ByJSONName(plain)
	}
	switch {
	case field == nil:
		return false
	case indexed:
		return field.IsMap()
	case !deeper:
		return true
	default:
		return field.Message() != nil && !field.IsMap() && hasField(field.Message(), rest)
	}
}
