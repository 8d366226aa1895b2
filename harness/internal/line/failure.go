package line

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"syscall"
)

// Errors are the errors that errors.Is and errors.As find on the caller's side as they
// would on the server's. Both sides need the same Errors. The zero value has the errors of
// every line: the ends of contexts, and the kernel's error numbers.
type Errors struct {
	// Sentinels are error values, by their name on the line.
	Sentinels map[string]error
	// Codecs are error types, by their name on the line. See [CodecOf].
	Codecs map[string]Codec
}

// Codec carries the errors of one type over a line.
type Codec struct {
	pack   func(err error) (data json.RawMessage, found bool)
	unpack func(data json.RawMessage) error
}

// CodecOf makes the codec of an error type, which is plain data on the line.
func CodecOf[E error, Data any](pack func(E) Data, unpack func(Data) E) Codec {
	return Codec{
		pack: func(err error) (json.RawMessage, bool) {
			var own E
			if !errors.As(err, &own) {
				return nil, false
			}
			data, err := json.Marshal(pack(own))
			return data, err == nil // the text of the error is sent in any case
		},
		unpack: func(raw json.RawMessage) error {
			var data Data
			if err := json.Unmarshal(raw, &data); err != nil {
				return err
			}
			return unpack(data)
		},
	}
}

// everywhere are the sentinels of every line.
var everywhere = map[string]error{
	"context.Canceled":         context.Canceled,
	"context.DeadlineExceeded": context.DeadlineExceeded,
}

// complete adds the sentinels of every line.
func (e Errors) complete() Errors {
	all := maps.Clone(everywhere)
	maps.Copy(all, e.Sentinels)
	e.Sentinels = all
	return e
}

// failure is an error as it crosses the line.
type failure struct {
	Text  string                     `json:"text"`
	Is    []string                   `json:"is,omitempty"`    // names of Sentinels
	Errno syscall.Errno              `json:"errno,omitempty"` // the kernel's error number, if it was one
	As    map[string]json.RawMessage `json:"as,omitempty"`    // by name of the Codec
}

func (e Errors) pack(err error) *failure {
	f := &failure{Text: err.Error()}
	for _, name := range slices.Sorted(maps.Keys(e.Sentinels)) {
		if errors.Is(err, e.Sentinels[name]) {
			f.Is = append(f.Is, name)
		}
	}
	errors.As(err, &f.Errno)
	for name, codec := range e.Codecs {
		if data, found := codec.pack(err); found {
			if f.As == nil {
				f.As = map[string]json.RawMessage{}
			}
			f.As[name] = data
		}
	}
	return f
}

func (e Errors) unpack(f *failure) error {
	remote := &RemoteError{text: f.Text}
	for _, name := range f.Is {
		if sentinel, known := e.Sentinels[name]; known {
			remote.causes = append(remote.causes, sentinel)
		}
	}
	if f.Errno != 0 {
		remote.causes = append(remote.causes, f.Errno)
	}
	for _, name := range slices.Sorted(maps.Keys(f.As)) {
		if codec, known := e.Codecs[name]; known {
			remote.causes = append(remote.causes, codec.unpack(f.As[name]))
		}
	}
	return remote
}

// RemoteError is an error of the other side. It has the same text as there, and errors.Is
// and errors.As find those [Errors] and that error number of the kernel which they would
// find there.
type RemoteError struct {
	text   string
	causes []error
}

// Error returns the text of the other side's error.
func (e *RemoteError) Error() string { return e.text }

// Unwrap returns the causes, for errors.Is and errors.As.
func (e *RemoteError) Unwrap() []error { return e.causes }
