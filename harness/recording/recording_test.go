package recording

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// full is a recording in which every field has a value.
func full(t *testing.T) Recording {
	t.Helper()
	var r Recording
	fill(t, reflect.ValueOf(&r).Elem())
	r.Version, r.Planned, r.Steps[0].Number = FormatVersion, 1, 1
	return r
}

// fill gives a value, and all that is below it, something that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	set := func(to reflect.Value) { v.Set(to) }
	switch {
	case v.Type() == timeType:
		set(reflect.ValueOf(time.Unix(1_700_000_000, 123_456_789).UTC()))
	case v.Type() == addrType:
		set(reflect.ValueOf(netip.MustParseAddr("fd00::1")))
	case v.Type() == addrPortType:
		set(reflect.ValueOf(netip.MustParseAddrPort("[fd00::1]:80")))
	case v.Type() == bytesType:
		v.SetBytes([]byte{0, 255})
	case v.Kind() == reflect.String:
		v.SetString("<a> & \"b\"\n")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(-7)
	case v.CanUint():
		v.SetUint(1<<v.Type().Bits() - 1)
	case v.CanFloat():
		v.SetFloat(-0.5)
	case v.Kind() == reflect.Pointer:
		set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case v.Kind() == reflect.Slice:
		set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case v.Kind() == reflect.Map:
		one := reflect.New(v.Type().Elem()).Elem()
		fill(t, one)
		set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("a key").Convert(v.Type().Key()), one)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("a recording has a %v", v.Type())
	}
}

// least is the smallest recording that can be.
func least() Recording {
	return Recording{Version: FormatVersion, Scenario: "s", Planned: 1, Steps: []Step{{Number: 1, Verb: "listen", What: "listen web:80"}}}
}

func written(t *testing.T, r Recording) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for name, r := range map[string]Recording{"everything": full(t), "almost nothing": least()} {
		again, err := Read(strings.NewReader(written(t, r)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(again, r) {
			t.Errorf("%s: wrote %+v, read %+v", name, r, again)
		}
	}
}

func TestSchema(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("run.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("run.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	whole := written(t, full(t))
	for _, c := range []struct {
		name, text string
		valid      bool
	}{
		{"everything", whole, true},
		{"almost nothing", written(t, least()), true},
		{"another version", strings.Replace(whole, `"twlabRecording": 1`, `"twlabRecording": 2`, 1), false},
		{"an unknown key", strings.Replace(whole, `"scenario":`, `"scenary": "x", "scenario":`, 1), false},
		{"an unknown key below", strings.Replace(whole, `"wanted":`, `"want": "x", "wanted":`, 1), false},
		{"a missing key", strings.Replace(whole, `"planned": 1,`, ``, 1), false},
		{"a text for a number", strings.Replace(whole, `"planned": 1`, `"planned": "1"`, 1), false},
		{"a port that is none", strings.Replace(whole, `"id": 65535`, `"id": 65536`, 1), false},
		{"a day that is none", strings.Replace(whole, `2023-11-14T`, `2023-13-14T`, 1), false},
	} {
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(c.text))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !c.valid && c.text == whole {
			t.Fatalf("%s: nothing was replaced", c.name)
		}
		if err := schema.Validate(instance); (err == nil) != c.valid {
			t.Errorf("%s: %v, want valid: %t", c.name, err, c.valid)
		}
		if _, err := Read(strings.NewReader(c.text)); (err == nil) != c.valid {
			t.Errorf("%s: the reader says %v, the schema valid: %t", c.name, err, c.valid)
		}
	}
}

// A recording says in one place what is missing; those that were made when packets had a place
// of their own are read as well.
func TestKeyOfBefore(t *testing.T) {
	r := least()
	r.Missing = map[Evidence]string{OfEvents: "3 events were lost"}
	text := strings.Replace(written(t, r), `"planned":`, `"noPackets": "lost 2 packets", "planned":`, 1)
	got, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Version, r.Missing[OfPackets] = FormatVersion, "lost 2 packets"
	if !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, want %+v", got, r)
	}
	if _, err := Read(strings.NewReader(strings.Replace(text, `"lost 2 packets"`, `7`, 1))); !errors.Is(err, ErrDamaged) {
		t.Errorf("a number as the reason: %v, want ErrDamaged", err)
	}
}

func TestWhatIsNoRecording(t *testing.T) {
	good := written(t, least())
	with := func(old, spoilt string) string {
		text := strings.Replace(good, old, spoilt, 1)
		if text == good {
			t.Fatalf("nothing like %s", old)
		}
		return text
	}
	for _, c := range []struct {
		name, text string
		is         error
		says       string
	}{
		{"empty", "", ErrForeign, "end of JSON"},
		{"a scenario file", "twlab: 1\nname: x\n", ErrForeign, "invalid character"},
		{"a program", "\x7fELF\x02\x01", ErrForeign, "invalid character"},
		{"a list", "[1]", ErrForeign, "array"},
		{"another JSON", `{"version": 1}`, ErrForeign, `no key "twlabRecording"`},
		{"a text for the version", with(`"twlabRecording": 1`, `"twlabRecording": "1"`), ErrForeign, "string"},
		{"the next version", with(`"twlabRecording": 1`, `"twlabRecording": 2`), ErrVersion, "of version 2, this program reads 1"},
		{"no version", with(`"twlabRecording": 1`, `"twlabRecording": 0`), ErrVersion, "version 0"},
		{"an unknown key", with(`"verb":`, `"werb": 1, "verb":`), ErrDamaged, `unknown key "steps[0].werb"`},
		{"a key in capitals", with(`"verb"`, `"Verb"`), ErrDamaged, `unknown key "steps[0].Verb"`},
		{"a key twice", with(`"verb":`, `"verb": "x", "verb":`), ErrDamaged, `key "steps[0].verb" is there twice`},
		{"a key too few", with(`"scenario": "s",`, ``), ErrDamaged, `key "scenario" is missing`},
		{"null", with(`"scenario": "s"`, `"scenario": null`), ErrDamaged, "scenario: null"},
		{"a list for a text", with(`"scenario": "s"`, `"scenario": ["s"]`), ErrDamaged, "scenario: ["},
		{"a number for a text", with(`"scenario": "s"`, `"scenario": 1`), ErrDamaged, "scenario"},
		{"a text for a number", with(`"planned": 1`, `"planned": "1"`), ErrDamaged, "planned"},
		{"no name", with(`"scenario": "s"`, `"scenario": ""`), ErrDamaged, "no name"},
		{"more follows", good + "{}", ErrForeign, "after top-level value"},
		{"too few steps", with(`"planned": 1`, `"planned": 2`), ErrDamaged, "only 1 of 2"},
		{"too many steps", with(`"planned": 1`, `"planned": 0`), ErrDamaged, "1 of 0"},
		{"a step of another place", with(`"number": 1`, `"number": 2`), ErrDamaged, "steps[0].number: 2, want 1"},
		{"no steps", `{"twlabRecording": 1, "by": "", "scenario": "s", "file": {"name": "", "text": ""}, "began": "2023-11-14T00:00:00Z", "took": 0, "planned": 0}`, ErrDamaged, "there are none"},
		{"deep", `{"twlabRecording": 1, "by": ` + strings.Repeat("[", 20000), ErrForeign, "depth"},
	} {
		r, err := Read(strings.NewReader(c.text))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v\nwant one line, %v, with %q", c.name, err, c.is, c.says)
		}
		if !reflect.DeepEqual(r, Recording{}) {
			t.Errorf("%s: something is read all the same: %+v", c.name, r)
		}
	}
}

func TestCutOffAnywhere(t *testing.T) {
	text := strings.TrimSpace(written(t, full(t)))
	for n := 1; n < len(text); n++ {
		if _, err := Read(strings.NewReader(text[:n])); !errors.Is(err, ErrTruncated) {
			t.Fatalf("the first %d bytes of %d: %v, want %v", n, len(text), err, ErrTruncated)
		}
	}
}

// endless is a file that has no end.
type endless struct{ read int }

func (e *endless) Read(into []byte) (int, error) {
	for i := range into {
		into[i] = ' '
	}
	e.read += len(into)
	return len(into), nil
}

func TestTooLarge(t *testing.T) {
	var e endless
	const most = 1 << 16
	if _, err := read(&e, most); !errors.Is(err, ErrTooLarge) || e.read > 2*most {
		t.Errorf("%v after %d bytes, want %v after %d", err, e.read, ErrTooLarge, most)
	}
	r := full(t)
	size := len(written(t, r))
	if err := r.write(io.Discard, size); err != nil {
		t.Errorf("%d bytes of %d: %v", size, size, err)
	}
	if err := r.write(io.Discard, size-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d bytes of %d: %v, want %v", size, size-1, err, ErrTooLarge)
	}
}

func TestReadersAndWritersThatFail(t *testing.T) {
	broken := errors.New("the disk is gone")
	if _, err := Read(io.MultiReader(strings.NewReader("{"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("%v, want that of the reader", err)
	}
	if err := least().Write(failing{broken}); !errors.Is(err, broken) {
		t.Errorf("%v, want that of the writer", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestConclusions(t *testing.T) {
	seen := func(met bool) Recording {
		r := least()
		r.Steps[0].Findings = []Finding{{Met: met}}
		return r
	}
	failed, cannot, unbuilt, ended, unfinished := least(), least(), least(), least(), least()
	failed.Steps[0].Problem, cannot.Steps[0].Problem, cannot.Steps[0].Cannot = "x", "x", true
	unbuilt.Unbuilt, ended.Interrupted, unfinished.Failed = "x", "x", "x"
	for _, c := range []struct {
		name           string
		r              Recording
		plain, twinned Verdict
	}{
		{"all met", seen(true), AsExpected, NotAsExpected},
		{"one not", seen(false), NotAsExpected, AsExpected},
		{"a step failed", failed, NotBroughtAbout, NotBroughtAbout},
		{"a step cannot", cannot, CannotHere, CannotHere},
		{"not built", unbuilt, CannotHere, CannotHere},
		{"not whole", unfinished, NotBroughtAbout, NotBroughtAbout},
		{"interrupted", ended, Interrupted, Interrupted},
	} {
		twin := c.r
		twin.Twin = true
		if c.r.Conclusion() != c.plain || twin.Conclusion() != c.twinned {
			t.Errorf("%s: %v, as a twin %v; want %v and %v", c.name, c.r.Conclusion(), twin.Conclusion(), c.plain, c.twinned)
		}
	}
}
