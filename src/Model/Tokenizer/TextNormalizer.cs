// Text to the form that pieces are matched against: character map, whitespace rules, the ▁ symbol. Deliberately not: added tokens, which are cut out before.
namespace IptNative.Model.Tokenizer;

/// <summary>When a ▁ is put before the text.</summary>
internal enum PrefixRule
{
    /// <summary>Never.</summary>
    Never,

    /// <summary>Before every stretch of text (SentencePiece's add_dummy_prefix).</summary>
    Always,

    /// <summary>Before every stretch that does not begin with ▁ by itself (Hugging Face's Metaspace "always").</summary>
    WhereMissing,

    /// <summary>As <see cref="WhereMissing"/>, at the text's very beginning only (Metaspace "first", T5Tokenizer legacy=false).</summary>
    FirstWhereMissing,
}

/// <summary>What becomes of spaces; the names of SentencePiece's NormalizerSpec are given where it has one.</summary>
internal sealed record WhitespaceRules
{
    public PrefixRule Prefix { get; init; } = PrefixRule.Always;

    /// <summary>Spaces at the beginning go (one part of remove_extra_whitespaces).</summary>
    public bool StripLeading { get; init; } = true;

    /// <summary>Runs of spaces become one (one part of remove_extra_whitespaces).</summary>
    public bool Collapse { get; init; } = true;

    /// <summary>Spaces at the end go (one part of remove_extra_whitespaces).</summary>
    public bool StripTrailing { get; init; } = true;

    /// <summary>Spaces are written as ▁ (escape_whitespaces).</summary>
    public bool Escape { get; init; } = true;

    /// <summary>The prefix ▁ is a suffix instead (treat_whitespace_as_suffix).</summary>
    public bool Suffix { get; init; }

    /// <summary>Every stretch of text with its spaces left alone: only the character map works.</summary>
    public static WhitespaceRules Untouched { get; } = new() { Prefix = PrefixRule.Never, StripLeading = false, Collapse = false, StripTrailing = false, Escape = false };
}

/// <summary>Normalises as SentencePiece does, byte for byte.</summary>
/// <remarks>Source: sentencepiece normalizer.cc Normalize and NormalizePrefix. Malformed UTF-8 becomes U+FFFD, one per byte.</remarks>
internal sealed class TextNormalizer
{
    private readonly CharsMap? _map;
    private readonly PieceTrie? _userDefined;
    private readonly WhitespaceRules _rules;
    private readonly byte[] _symbol;

    // Bytes that are copied as they are when an ASCII byte or the end follows; nearly all of English text.
    private readonly bool[] _plain = new bool[256];

    public TextNormalizer(CharsMap? map, PieceTrie? userDefined, WhitespaceRules rules)
    {
        _map = map;
        _userDefined = userDefined;
        _rules = rules;
        _symbol = rules.Escape ? "▁"u8.ToArray() : " "u8.ToArray();
        for (int b = 0; b < 0x80; b++)
            _plain[b] = (map is null || map.KeepsAscii((byte)b)) && (userDefined is null || userDefined.Units[userDefined.Units[0].Base ^ b].Parent != 0);
    }

    /// <summary>Appends the normalised text to the buffer's Text.</summary>
    /// <param name="input">UTF-8.</param>
    /// <param name="isFirst">True for the stretch at the text's beginning.</param>
    /// <param name="buffer">Where the result goes.</param>
    /// <returns>The result's place in the buffer's Text.</returns>
    public (int Start, int End) Normalize(ReadOnlySpan<byte> input, bool isFirst, TokenBuffer buffer)
    {
        int begin = buffer.TextLength;
        // After an added token, T5Tokenizer legacy=false keeps one space: it parts "<extra_id_0> a" from "<extra_id_0>a".
        bool stripLeading = _rules.StripLeading && (isFirst || _rules.Prefix != PrefixRule.FirstWhereMissing);
        while (stripLeading && !input.IsEmpty)
        {
            int consumed = NormalizePrefix(input, out ReadOnlySpan<byte> written);
            if (!written.SequenceEqual(" "u8))
                break;
            input = input[consumed..];
        }

        if (input.IsEmpty)
            return (begin, begin);

        // The prefix has its place reserved, because some rules decide on it at the end.
        int start = begin + _symbol.Length;
        int at = start;
        Reserve(buffer, at, input.Length);
        if (_rules.Prefix == PrefixRule.Always && !_rules.Suffix)
        {
            _symbol.CopyTo(buffer.Text, begin);
            start = begin;
        }

        bool afterSpace = stripLeading;
        for (int i = 0; i < input.Length;)
        {
            byte b = input[i];
            if (_plain[b] && (i + 1 == input.Length || input[i + 1] < 0x80))
            {
                i++;
                if (b != (byte)' ')
                {
                    buffer.Text[at++] = b;
                    afterSpace = false;
                }
                else if (!afterSpace)
                {
                    _symbol.CopyTo(buffer.Text.AsSpan(at));
                    at += _symbol.Length;
                    afterSpace = _rules.Collapse;
                }

                continue;
            }

            i += NormalizePrefix(input[i..], out ReadOnlySpan<byte> written);
            while (afterSpace && !written.IsEmpty && written[0] == ' ')
                written = written[1..];
            if (!written.IsEmpty)
            {
                Reserve(buffer, at, written.Length + input.Length - i);
                foreach (byte c in written)
                {
                    if (c != ' ')
                    {
                        buffer.Text[at++] = c;
                        continue;
                    }

                    _symbol.CopyTo(buffer.Text.AsSpan(at));
                    at += _symbol.Length;
                }

                afterSpace = written[^1] == ' ';
            }

            afterSpace &= _rules.Collapse;
        }

        while (_rules.StripTrailing && buffer.Text.AsSpan(start..at).EndsWith(_symbol))
            at -= _symbol.Length;

        bool prefixWhereMissing = _rules.Prefix == PrefixRule.WhereMissing || (_rules.Prefix == PrefixRule.FirstWhereMissing && isFirst);
        if (prefixWhereMissing && at > start && !buffer.Text.AsSpan(start..at).StartsWith(_symbol))
        {
            _symbol.CopyTo(buffer.Text, begin);
            start = begin;
        }

        if (_rules.Prefix == PrefixRule.Always && _rules.Suffix)
        {
            _symbol.CopyTo(buffer.Text.AsSpan(at));
            at += _symbol.Length;
        }

        buffer.TextLength = at;
        return (start, at);
    }

    // Room for every remaining byte to become the three bytes of ▁, and for a suffix.
    private static void Reserve(TokenBuffer buffer, int at, int remaining) => buffer.EnsureText(checked(at + (3 * remaining) + 8));

    private int NormalizePrefix(ReadOnlySpan<byte> input, out ReadOnlySpan<byte> written)
    {
        if (_userDefined is not null && _userDefined.LongestPrefix(input) is var matched and > 0)
        {
            written = input[..matched];
            return matched;
        }

        if (_map is not null && _map.LongestPrefix(input, out written) is var replaced and > 0)
            return replaced;
        if (System.Text.Rune.DecodeFromUtf8(input, out _, out int length) != System.Buffers.OperationStatus.Done)
        {
            written = "\uFFFD"u8;
            return 1;
        }

        written = input[..length];
        return length;
    }
}
