package line

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Method is the name of a call, with the types of its argument and its result. JSON must
// preserve both.
type Method[In, Out any] string

// Call makes the call and waits for its answer. When ctx ends, the context on the other
// side ends too, and Call still waits for the answer. The error is a *[RemoteError], or
// wraps [ErrLost].
func (m Method[In, Out]) Call(ctx context.Context, c *Caller, in In) (out Out, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("%s: encode: %w", m, err)
	}
	answer, err := c.call(ctx, string(m), body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("%s: decode answer: %w", m, err)
	}
	return out, nil
}

// Serve makes f answer the calls.
func (m Method[In, Out]) Serve(s *Server, f func(context.Context, In) (Out, error)) {
	s.methods[string(m)] = method{
		signature: signature(reflect.TypeFor[In]()) + " " + signature(reflect.TypeFor[Out]()),
		answer: func(ctx context.Context, body json.RawMessage) (json.RawMessage, error) {
			var in In
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, fmt.Errorf("%s: decode: %w", m, err)
			}
			out, err := f(ctx, in)
			if err != nil {
				return nil, err
			}
			return json.Marshal(out)
		},
	}
}

// method is a Method without its types.
type method struct {
	signature string
	answer    func(context.Context, json.RawMessage) (json.RawMessage, error)
}

// signature describes a type down to its basic types, as JSON shows it.
func signature(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		fields := make([]string, 0, t.NumField())
		for f := range t.Fields() {
			if f.IsExported() {
				fields = append(fields, f.Name+" "+signature(f.Type)+" "+string(f.Tag))
			}
		}
		return t.String() + "{" + strings.Join(fields, ";") + "}"
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return t.Kind().String() + " " + signature(t.Elem())
	case reflect.Map:
		return "map " + signature(t.Key()) + " " + signature(t.Elem())
	default:
		return t.String() + " " + t.Kind().String()
	}
}
