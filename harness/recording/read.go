package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxBytes is the size of the largest recording that is written or read.
const MaxBytes = 256 << 20

// What is wrong with a file that is no recording of this version. Errors of [Read] wrap one
// of them.
var (
	// ErrForeign: it is something else.
	ErrForeign = errors.New("this is no recording of twlab (run.json)")
	// ErrVersion: another version of the format.
	ErrVersion = errors.New("another version of recordings")
	// ErrTruncated: it ends in the middle.
	ErrTruncated = errors.New("the recording is cut off; copy it again")
	// ErrDamaged: a recording of this version does not look like that.
	ErrDamaged = errors.New("the recording was changed, or another program wrote it")
	// ErrTooLarge: more than [MaxBytes].
	ErrTooLarge = fmt.Errorf("a recording has at most %d MiB", MaxBytes>>20)
)

// Read reads a recording that [Recording.Write] has written. It takes nothing that it does not
// know, and nothing that is missing for granted. The error wraps one of those above, or is the
// reader's.
func Read(from io.Reader) (Recording, error) { return read(from, MaxBytes) }

func read(from io.Reader, most int) (r Recording, err error) {
	text, err := io.ReadAll(io.LimitReader(from, int64(most)+1))
	switch {
	case err != nil:
		return r, fmt.Errorf("read a recording: %w", err)
	case len(text) > most:
		return r, ErrTooLarge
	}
	if err := begins(text); err != nil {
		return r, err
	}
	if text, err = renamed(text); err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := strict(text); err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return Recording{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := r.check(); err != nil {
		return Recording{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

// renamed is the recording with the keys of today: before, a key "noPackets" said why packets
// are missing.
func renamed(text []byte) ([]byte, error) {
	const before = "noPackets"
	if !bytes.Contains(text, []byte(`"`+before+`"`)) {
		return text, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, err
	}
	if keys[before] == nil { // an account has a key of that name too
		return text, nil
	}
	var why string
	missing := map[Evidence]string{}
	if err := json.Unmarshal(keys[before], &why); err != nil {
		return nil, fmt.Errorf("%s: %w", before, err)
	}
	if old := keys["missing"]; old != nil {
		if err := json.Unmarshal(old, &missing); err != nil {
			return nil, fmt.Errorf("missing: %w", err)
		}
	}
	missing[OfPackets] = why
	all, err := json.Marshal(missing)
	if err != nil {
		return nil, fmt.Errorf("missing: %w", err)
	}
	keys["missing"] = all
	delete(keys, before)
	return json.Marshal(keys)
}

// begins looks what kind of file it is.
func begins(text []byte) error {
	var head struct {
		Version *int   `json:"twlabRecording"`
		By      string `json:"by"`
	}
	err := json.Unmarshal(text, &head)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax) && syntax.Offset >= int64(len(text)) && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")):
		return fmt.Errorf("%w: it ends after %d bytes", ErrTruncated, len(text))
	case err != nil:
		return fmt.Errorf("%w: %w", ErrForeign, err)
	case head.Version == nil:
		return fmt.Errorf("%w: it has no key \"twlabRecording\"", ErrForeign)
	case *head.Version != FormatVersion:
		return fmt.Errorf("%w: it is of version %d, this program reads %d; read it with what wrote it: %q", ErrVersion, *head.Version, FormatVersion, head.By)
	default:
		return nil
	}
}

// check finds what its keys do not show.
func (r Recording) check() error {
	switch {
	case r.Scenario == "":
		return errors.New("scenario: it has no name")
	case len(r.Steps) == 0 && r.Unbuilt == "" && r.Interrupted == "":
		return errors.New("steps: there are none, and nothing says why")
	case len(r.Steps) > r.Planned:
		return fmt.Errorf("steps: %d of %d", len(r.Steps), r.Planned)
	case len(r.Steps) < r.Planned && r.Verdict() < NotBroughtAbout:
		return fmt.Errorf("steps: only %d of %d, and nothing says why", len(r.Steps), r.Planned)
	}
	for i, s := range r.Steps {
		if s.Number != i+1 {
			return fmt.Errorf("steps[%d].number: %d, want %d", i, s.Number, i+1)
		}
	}
	return nil
}

// Write writes the recording as JSON. The error wraps [ErrTooLarge] when Read would refuse it.
func (r Recording) Write(to io.Writer) error { return r.write(to, MaxBytes) }

func (r Recording) write(to io.Writer, most int) error {
	r.Version = FormatVersion
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // rules and logs have > and &
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the recording of %q: %w", r.Scenario, err)
	}
	if text.Len() > most {
		return fmt.Errorf("write the recording of %q: %w, and this one has %d packets: make fewer connections", r.Scenario, ErrTooLarge, len(r.Packets))
	}
	if _, err := text.WriteTo(to); err != nil {
		return fmt.Errorf("write the recording of %q: %w", r.Scenario, err)
	}
	return nil
}
