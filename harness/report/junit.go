package report

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"twlab/harness/recording"
)

// suites, suite, testCase and failure are the elements of JUnit's XML that CI systems read.
type suites struct {
	XMLName  xml.Name `xml:"testsuites"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Suites   []*suite `xml:"testsuite"`
}

type suite struct {
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Errors   int        `xml:"errors,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Time     string     `xml:"time,attr"`
	Cases    []testCase `xml:"testcase"`
	seconds  float64
}

type testCase struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	Time    string   `xml:"time,attr"`
	Failure *failure `xml:"failure"`
	Error   *failure `xml:"error"`
	Skipped *skipped `xml:"skipped"`
	Output  output   `xml:"system-out"`
}

type skipped struct {
	Message string `xml:"message,attr"`
}

type output struct {
	Text string `xml:",cdata"`
}

type failure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the runs as JUnit's XML: a suite for each file and kernel, a case for each
// scenario. What is not as expected is a failure; what could not be brought about, or was
// interrupted, is an error; what this machine or a kernel cannot run is skipped.
func JUnit(to io.Writer, runs []Run) error {
	var all suites
	for _, run := range runs {
		byFile := map[string]*suite{}
		for _, r := range run.Recordings {
			s := byFile[r.File.Name]
			if s == nil {
				s = &suite{Name: Plain(strings.TrimSpace(r.File.Name + " " + run.Kernel))}
				byFile[r.File.Name], all.Suites = s, append(all.Suites, s)
			}
			c, err := caseOf(r)
			if err != nil {
				return err
			}
			s.add(c, r.Took.Seconds())
		}
		if run.Problem != "" {
			s := &suite{Name: Plain(strings.TrimSpace("others " + run.Kernel))}
			s.add(testCase{Name: "others", Class: s.Name, Error: &failure{Message: Plain(run.Problem), Type: "not run"}}, 0)
			all.Suites = append(all.Suites, s)
		}
	}
	for _, s := range all.Suites {
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
		all.Skipped += s.Skipped
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit's XML: %w", err)
	}
	_, err = fmt.Fprintf(to, "%s%s\n", xml.Header, text)
	return err
}

func (s *suite) add(c testCase, seconds float64) {
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
	if c.Error != nil {
		s.Errors++
	}
	if c.Skipped != nil {
		s.Skipped++
	}
	s.seconds += seconds
	s.Time = fmt.Sprintf("%.3f", s.seconds)
	s.Cases = append(s.Cases, c)
}

func caseOf(r recording.Recording) (testCase, error) {
	var text strings.Builder
	if err := Text(&text, r); err != nil {
		return testCase{}, err
	}
	c := testCase{
		Name: Plain(r.Scenario), Class: Plain(strings.TrimSuffix(r.File.Name, ".yaml")),
		Time: fmt.Sprintf("%.3f", r.Took.Seconds()), Output: output{text.String()},
	}
	verdict := r.Conclusion()
	f := &failure{Message: Plain(Why(r)), Type: verdict.String()}
	switch verdict {
	case recording.AsExpected:
	case recording.NotAsExpected:
		c.Failure = f
	case recording.CannotHere:
		c.Skipped = &skipped{f.Message}
	default:
		c.Error = f
	}
	return c, nil
}

// Why is the reason of a conclusion in one sentence: the first expectation that was not met,
// or what went wrong.
func Why(r recording.Recording) string {
	if r.Interrupted != "" {
		return r.Interrupted
	}
	if p := r.Problem(); p != "" {
		return p
	}
	for _, s := range r.Steps {
		for _, f := range s.Findings {
			if !f.Met {
				return fmt.Sprintf("step %d, %s: %s: wanted %s, seen %s", s.Number, s.What, f.What, f.Wanted, f.Seen)
			}
		}
	}
	return cmp.Or(strings.TrimPrefix(conclusion(r), r.Conclusion().String()+": "), "everything was as expected")
}
