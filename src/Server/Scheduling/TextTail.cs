// A text as it grows token by token: what of it is settled, and where a stop string ends it. Deliberately not: choosing tokens.
using IptNative.Model.Tokenizer;

namespace IptNative.Server.Scheduling;

/// <summary>Turns tokens into stretches of text that never have to be taken back.</summary>
/// <remarks>
/// Held back until more is known: an end that could become a stop string, and damaged characters at the end, which the next byte piece may complete.
/// The stretches put together are exactly what decoding all ids at once gives, up to the stop string.
/// </remarks>
/// <param name="tokenizer">The model's tokenizer.</param>
/// <param name="stops">Texts that end the text before them.</param>
/// <param name="atOnce">True where nobody asks before the end: the text is decoded once, then. Needs no stop strings.</param>
internal sealed class TextTail(T5Tokenizer tokenizer, IReadOnlyList<string> stops, bool atOnce = false)
{
    private readonly List<int> _ids = [];
    private string _text = "";
    private int _given;

    /// <summary>Characters decoded so far, given or held back.</summary>
    public int Length => _text.Length;

    /// <summary>Tokens read so far.</summary>
    public int Tokens => _ids.Count;

    /// <summary>Reads a token.</summary>
    /// <param name="id">The token.</param>
    /// <param name="stopped">True where a stop string is complete; the text ends before it.</param>
    /// <returns>What is settled now and was not before; may be empty.</returns>
    public string Add(int id, out bool stopped)
    {
        _ids.Add(id);
        stopped = false;
        if (atOnce)
            return "";
        _text = Decoded();
        int end = stops.Select(s => _text.IndexOf(s, _given, StringComparison.Ordinal)).Where(at => at >= 0).DefaultIfEmpty(-1).Min();
        stopped = end >= 0;
        if (!stopped)
            end = Math.Max(_given, _text.Length - HeldBack());
        return Give(end);
    }

    /// <summary>The text has ended: what was held back is settled.</summary>
    /// <returns>The rest.</returns>
    public string End()
    {
        if (atOnce)
            _text = Decoded();
        return Give(_text.Length);
    }

    private string Decoded() => tokenizer.Decode(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_ids), skipSentinels: true);

    private string Give(int end)
    {
        string given = _text[_given..end];
        _given = end;
        return given;
    }

    private int HeldBack()
    {
        int held = 0;
        while (held < _text.Length && _text[^(held + 1)] == '\uFFFD')
            held++;
        foreach (string stop in stops)
        {
            for (int length = Math.Min(stop.Length - 1, _text.Length); length > held; length--)
            {
                if (_text.AsSpan()[^length..].SequenceEqual(stop.AsSpan(0, length)))
                    held = length;
            }
        }
        return held;
    }
}
