package recording

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// key is a key of an object.
type key struct {
	name     string
	optional bool
	of       reflect.Type
}

// keysOf are the keys of a struct's object.
func keysOf(t reflect.Type) (all []key) {
	for i := range t.NumField() {
		name, rest, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		all = append(all, key{name, rest == "omitempty", t.Field(i).Type})
	}
	return all
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	addrType     = reflect.TypeFor[netip.Addr]()
	addrPortType = reflect.TypeFor[netip.AddrPort]()
	bytesType    = reflect.TypeFor[[]byte]()
	durationType = reflect.TypeFor[time.Duration]()
)

// isText reports whether a type is a string in JSON although it is none in Go.
func isText(t reflect.Type) bool {
	return t == timeType || t == addrType || t == addrPortType || t == bytesType
}

// strict looks at the keys of all objects: encoding/json takes keys in other letters, keys
// that come twice, keys that are missing, and null.
func strict(text []byte) error {
	w := walker{json.NewDecoder(bytes.NewReader(text)), map[reflect.Type][]key{}}
	if err := w.value(reflect.TypeFor[Recording](), nil); err != nil {
		return err
	}
	if w.More() {
		return fmt.Errorf("byte %d: something follows the recording", w.InputOffset())
	}
	return nil
}

// place is where something is: a key of an object, or an element of a list. It becomes a text only
// in an error, because there are very many.
type place struct {
	of    *place // nil at the top
	key   string
	index int // of an element, which has no key
}

// String writes it as "steps[2].result.errno".
func (p *place) String() string {
	switch {
	case p == nil:
		return ""
	case p.key == "":
		return fmt.Sprintf("%v[%d]", p.of, p.index)
	default:
		return strings.TrimPrefix(p.of.String()+"."+p.key, ".")
	}
}

// walker walks through a text along a type.
type walker struct {
	*json.Decoder
	keys map[reflect.Type][]key // those of types that were met
}

// keysOf are the keys of a struct's object.
func (w walker) keysOf(t reflect.Type) []key {
	if w.keys[t] == nil {
		w.keys[t] = keysOf(t)
	}
	return w.keys[t]
}

func (w walker) value(t reflect.Type, at *place) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := w.Token()
	if err != nil {
		return fmt.Errorf("%v: %w", at, err)
	}
	if token == nil {
		return fmt.Errorf("%v: null; what is not there is left out", at)
	}
	begin, nested := token.(json.Delim)
	switch {
	case !nested:
		return nil // Unmarshal looks whether the type is right
	case begin == '[' && t.Kind() == reflect.Slice && !isText(t):
		for i := 0; w.More(); i++ {
			if err := w.value(t.Elem(), &place{of: at, index: i}); err != nil {
				return err
			}
		}
	case begin == '{' && t.Kind() == reflect.Map:
		err = w.entries(t.Elem(), at)
	case begin == '{' && t.Kind() == reflect.Struct && !isText(t):
		err = w.fields(w.keysOf(t), at)
	default:
		return fmt.Errorf("%v: %v where none belongs", at, begin)
	}
	if err != nil {
		return err
	}
	_, err = w.Token() // the end of it
	return err
}

// entries walks through an object that may have any keys.
func (w walker) entries(t reflect.Type, at *place) error {
	seen := map[string]bool{}
	for w.More() {
		below, err := w.key(at)
		if err != nil {
			return err
		}
		if seen[below.key] {
			return fmt.Errorf("key %q is there twice", below)
		}
		seen[below.key] = true
		if err := w.value(t, below); err != nil {
			return err
		}
	}
	return nil
}

// fields walks through an object that has certain keys; those that are not optional must be there.
func (w walker) fields(keys []key, at *place) error {
	seen := make([]bool, len(keys))
	for w.More() {
		below, err := w.key(at)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == below.key })
		switch {
		case i < 0:
			return fmt.Errorf("unknown key %q", below)
		case seen[i]:
			return fmt.Errorf("key %q is there twice", below)
		}
		seen[i] = true
		if err := w.value(keys[i].of, below); err != nil {
			return err
		}
	}
	for i, k := range keys {
		if !k.optional && !seen[i] {
			return fmt.Errorf("key %q is missing", &place{of: at, key: k.name})
		}
	}
	return nil
}

// key reads a key of an object.
func (w walker) key(of *place) (*place, error) {
	token, err := w.Token()
	if err != nil {
		return nil, err
	}
	return &place{of: of, key: fmt.Sprint(token)}, nil
}
