// One client's call: its texts in the batch, and the events that its handler reads. Deliberately not: HTTP, the batch.
using System.Threading.Channels;
using IptNative.Model.Decoding;
using IptNative.Model.Tokenizer;
using IptNative.Server.Prompts;

namespace IptNative.Server.Scheduling;

/// <summary>A token's log probability for the client.</summary>
internal readonly record struct ToldToken(int Id, float LogProb, TokenLogProb[] Top, int Offset);

/// <summary>More of a choice.</summary>
/// <param name="Choice">Which choice of the call.</param>
/// <param name="Text">What is new; may be empty.</param>
/// <param name="Tokens">The tokens read since the last event, where log probabilities were asked for.</param>
/// <param name="Finish">"stop" or "length" with the last event of a choice, else null.</param>
/// <param name="TokenCount">Tokens generated so far for this choice.</param>
internal sealed record ChoiceEvent(int Choice, string Text, IReadOnlyList<ToldToken> Tokens, string? Finish, int TokenCount);

/// <summary>A call: written to by the lanes that its inputs are in, read by its handler.</summary>
internal sealed class CompletionCall
{
    // Never full and never waited for: a client that reads slowly costs its own few tokens of memory, and nobody else's time.
    private readonly Channel<ChoiceEvent> _events = Channel.CreateUnbounded<ChoiceEvent>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = false });
    private volatile bool _isWanted = true;
    private int _open;

    public bool IsWanted => _isWanted;

    public ChannelReader<ChoiceEvent> Events => _events.Reader;

    public void Opened(int choices) => _open = choices;

    /// <summary>Nobody reads any more.</summary>
    public void Abandon()
    {
        _isWanted = false;
        _events.Writer.TryComplete();
    }

    public void Fail(Exception reason)
    {
        _isWanted = false;
        _events.Writer.TryComplete(reason);
    }

    public void Write(ChoiceEvent news)
    {
        _events.Writer.TryWrite(news);
        if (news.Finish is not null && Interlocked.Decrement(ref _open) == 0)
            _events.Writer.TryComplete();
    }
}

/// <summary>One input of a call with its n texts.</summary>
internal sealed class CompletionJob : LiveRequest
{
    private sealed class Choice(TextTail tail)
    {
        public TextTail Tail => tail;

        public List<ToldToken> Untold { get; set; } = [];

        // What a call that wants its answer whole has not been woken up for.
        public System.Text.StringBuilder Text { get; } = new();
    }

    private readonly CompletionCall _call;
    private readonly int _firstChoice;
    private readonly bool _logProbs;
    private readonly bool _inParts;
    private readonly Choice[] _choices;
    private int _ended;

    public CompletionJob(CompletionCall call, int number, int[] ids, ServedPrompt prompt, GenerationOptions options, IReadOnlyList<string> stops, int? logProbs, bool inParts, T5Tokenizer tokenizer)
        : base(options, number, logProbs)
    {
        (_call, _firstChoice, _logProbs, _inParts, Ids, Prompt) = (call, number * options.NumReturnSequences, logProbs is not null, inParts, ids, prompt);
        // An offset in the text needs the text.
        bool atOnce = !inParts && stops.Count == 0 && logProbs is null;
        _choices = [.. Enumerable.Range(0, options.NumReturnSequences).Select(_ => new Choice(new TextTail(tokenizer, stops, atOnce)))];
    }

    public int[] Ids { get; }

    public ServedPrompt Prompt { get; }

    public int Texts => _choices.Length;

    /// <summary>Positions of the encoded input; a template has the prompt's places in the ids.</summary>
    public int Positions => Tokens + (Prompt.Prompt?.Length ?? 0);

    /// <summary>Tokens of the input, virtual ones not counted.</summary>
    public int Tokens => Ids.Length - (Prompt.Prompt?.Template?.Rows ?? 0);

    /// <summary>When it was put into the queue (Stopwatch ticks).</summary>
    public long QueuedAt { get; set; }

    /// <summary>Called with the first token: ticks since it was queued.</summary>
    public Action<long>? FirstToken { get; set; }

    /// <summary>All its texts have ended, or nobody waits for them.</summary>
    public bool IsDone => _ended == _choices.Length || !IsWanted;

    public override bool IsWanted => _call.IsWanted;

    public override bool Read(int sample, TokenLogProb token, ReadOnlySpan<TokenLogProb> top)
    {
        FirstToken?.Invoke(QueuedAt);
        FirstToken = null;
        Choice choice = _choices[sample];
        if (_logProbs)
            choice.Untold.Add(new ToldToken(token.Id, token.LogProb, top.ToArray(), choice.Tail.Length));
        string text = choice.Tail.Add(token.Id, out bool stopped);
        if (stopped)
            Tell(sample, text, "stop");
        else if (!_inParts)
            choice.Text.Append(text);
        else if (text.Length > 0)
            Tell(sample, text, null);
        return !stopped;
    }

    public override void Finished(int sample, FinishReason reason)
    {
        // An answer may end without a token.
        FirstToken?.Invoke(QueuedAt);
        FirstToken = null;
        Tell(sample, _choices[sample].Tail.End(), reason == FinishReason.EndOfSequence ? "stop" : "length");
    }

    public override void Failed(Exception reason) => _call.Fail(reason);

    private void Tell(int sample, string text, string? finish)
    {
        Choice choice = _choices[sample];
        if (!_inParts)
            text = choice.Text.Append(text).ToString();
        if (finish is not null)
            _ended++;
        _call.Write(new ChoiceEvent(_firstChoice + sample, text, choice.Untold, finish, choice.Tail.Tokens));
        choice.Untold = [];
    }
}
