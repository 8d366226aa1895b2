package recording

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
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
	w := walker{json.NewDecoder(bytes.NewReader(text))}
	if err := w.value(reflect.TypeFor[Recording](), ""); err != nil {
		return err
	}
	if w.More() {
		return fmt.Errorf("byte %d: something follows the recording", w.InputOffset())
	}
	return nil
}

// walker walks through a text along a type.
type walker struct{ *json.Decoder }

func (w walker) value(t reflect.Type, path string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := w.Token()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if token == nil {
		return fmt.Errorf("%s: null; what is not there is left out", path)
	}
	begin, nested := token.(json.Delim)
	switch {
	case !nested:
		return nil // Unmarshal looks whether the type is right
	case begin == '[' && t.Kind() == reflect.Slice && !isText(t):
		for i := 0; w.More(); i++ {
			if err := w.value(t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case begin == '{' && t.Kind() == reflect.Map:
		err = w.object(path, func(string) (reflect.Type, bool) { return t.Elem(), true }, nil)
	case begin == '{' && t.Kind() == reflect.Struct && !isText(t):
		keys := keysOf(t)
		err = w.object(path, func(name string) (reflect.Type, bool) {
			for _, k := range keys {
				if k.name == name {
					return k.of, true
				}
			}
			return nil, false
		}, keys)
	default:
		return fmt.Errorf("%s: %v where none belongs", path, begin)
	}
	if err != nil {
		return err
	}
	_, err = w.Token() // the end of it
	return err
}

// object walks through the keys of an object; those of keys that are not optional must be there.
func (w walker) object(path string, of func(name string) (reflect.Type, bool), keys []key) error {
	seen := map[string]bool{}
	for w.More() {
		token, err := w.Token()
		if err != nil {
			return err
		}
		name := fmt.Sprint(token)
		below := strings.TrimPrefix(path+"."+name, ".")
		t, known := of(name)
		switch {
		case !known:
			return fmt.Errorf("unknown key %q", below)
		case seen[name]:
			return fmt.Errorf("key %q is there twice", below)
		}
		seen[name] = true
		if err := w.value(t, below); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if !k.optional && !seen[k.name] {
			return fmt.Errorf("key %q is missing", strings.TrimPrefix(path+"."+k.name, "."))
		}
	}
	return nil
}
