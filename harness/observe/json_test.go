//go:build linux

package observe

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"twlab/harness/kernel"
)

// What another machine sends arrives as it was.
func TestJSONRoundTrip(t *testing.T) {
	tuple := Tuple{Src: private, Dst: endpoint}
	way := Way{
		EnteredGateway: true, LeftGateway: true, Reached: true, As: public, To: endpoint,
		Hops: []Hop{{"gateway1", true, true, public, endpoint}, {Gateway: "gateway2", Entered: true}},
	}
	roundTrip(t, kernel.Counters{"TcpExt.TW": 1<<64 - 1, "Tcp.InSegs": 0})
	roundTrip(t, Sockets{
		{State: TimeWait, Local: private, Remote: endpoint, Timer: TimerTimeWait, Expires: 59 * time.Second, RecvQueue: 1, SendQueue: 2, V6: true, V6Only: true},
		{},
	})
	roundTrip(t, Flow{Original: tuple, Reply: Tuple{Src: endpoint, Dst: public}, State: "TIME_WAIT", Expires: time.Minute, SeenReply: true, Assured: true})
	roundTrip(t, FlowEvent{
		Time: time.Unix(1, 2).UTC(), Stamped: true, Change: FlowDestroyed, Flow: Flow{Original: tuple, Reply: tuple, State: "CLOSE"}, Requester: 7,
	})
	roundTrip(t, FlowMatch{Original: tuple})
	roundTrip(t, RuleHits{6, "nat", "POSTROUTING", `-A POSTROUTING -m comment --comment "<&>" -j MASQUERADE`, 1, 2})
	roundTrip(t, Packet{
		Point: "client0", Interface: "eth0", Time: time.Unix(1_700_000_000, 123_456_789).UTC(), Direction: Out, Src: private, Dst: endpoint,
		ID: 1, Seq: 2, Ack: 3, Flags: FlagSYN | FlagACK, Timestamp: TimestampOption{true, 4, 5}, Payload: 6, FlowLabel: 7, Fragment: true, Raw: []byte{0, 255},
	})
	roundTrip(t, SYNAccount{
		Path: throughGateway, Sent: 1, EnteredGateway: 1, LeftGateway: 1, Reached: 1, SYNACKs: 1, ACKs: 1, RSTs: 1, Resets: 1,
		SYNs: []SYN{{
			Sent: time.Unix(1, 2).UTC(), Sequence: 3, Timestamp: TimestampOption{true, 4, 5}, Way: way,
			Answer: AnswerACK, AnsweredBy: "balancer", AnswerReachedClient: true, ResetSent: true, Reset: way,
		}},
	})
}

func roundTrip[T any](t *testing.T, sent T) {
	t.Helper()
	text, err := json.Marshal(sent)
	if err != nil {
		t.Errorf("%T: %v", sent, err)
		return
	}
	var got T
	if err := json.Unmarshal(text, &got); err != nil {
		t.Errorf("%T: %v", sent, err)
		return
	}
	if !reflect.DeepEqual(got, sent) {
		t.Errorf("%T: sent %+v, got %+v by way of %s", sent, sent, got, text)
	}
}
