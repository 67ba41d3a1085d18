// Tokens that are found in the raw text before anything else: control pieces, the sentinels <extra_id_i>, tokens that users added. Deliberately not: the pieces of the model.
using System.Buffers;

namespace IptNative.Model.Tokenizer;

/// <summary>One such token, with the switches of Hugging Face's AddedToken.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Content">The exact text that is recognised.</param>
/// <param name="IsControl">True for tokens that say nothing themselves (pad, eos): decoding leaves them out.</param>
internal sealed record AddedToken(int Id, string Content, bool IsControl)
{
    /// <summary>White space before it belongs to it.</summary>
    public bool LStrip { get; init; }

    /// <summary>White space after it belongs to it.</summary>
    public bool RStrip { get; init; }

    /// <summary>Recognised only where no letter, digit or underscore touches it.</summary>
    public bool SingleWord { get; init; }
}

/// <summary>Finds added tokens in text: leftmost first, of several at one place the longest; case and every character count.</summary>
/// <remarks>
/// Source: HF tokenizers added_vocabulary.rs find_matches; transformers tokenization_utils.py PreTrainedTokenizer.tokenize.
/// Differs from HF tokenizers: a token marked normalized=true is looked for in the raw text as well, because T5's special tokens never are and matching twice would
/// only matter for a token whose spelling the character map changes.
/// </remarks>
internal sealed class AddedTokens
{
    // No vocabulary comes near this; a greater id is damage.
    private const int MaxId = 1 << 24;

    private readonly SearchValues<string>? _search;
    private readonly Dictionary<string, AddedToken> _byContent = new(StringComparer.Ordinal);
    private readonly Dictionary<string, AddedToken>.AlternateLookup<ReadOnlySpan<char>> _bySpan;
    private readonly Dictionary<int, AddedToken> _byId = [];
    private readonly int[] _lengths;

    public AddedTokens(IEnumerable<AddedToken> tokens, string source)
    {
        foreach (AddedToken token in tokens.Where(t => t.Content.Length > 0))
        {
            if (token.Id is < 0 or > MaxId)
                throw PieceTable.Invalid(source, $"the added token '{token.Content}' has id {token.Id}, 0 to {MaxId} is expected");
            _byContent.TryAdd(token.Content, token);
            _byId.TryAdd(token.Id, token);
            IdEnd = Math.Max(IdEnd, token.Id + 1);
        }

        _bySpan = _byContent.GetAlternateLookup<ReadOnlySpan<char>>();
        _lengths = [.. _byContent.Keys.Select(c => c.Length).Distinct().OrderDescending()];
        _search = _byContent.Count == 0 ? null : SearchValues.Create([.. _byContent.Keys], StringComparison.Ordinal);
    }

    /// <summary>One past the highest id; 0 where there are no tokens.</summary>
    public int IdEnd { get; }

    public AddedToken? ById(int id) => _byId.GetValueOrDefault(id);

    public int? IdOf(string content) => _byContent.GetValueOrDefault(content)?.Id;

    /// <summary>Finds the first token.</summary>
    /// <param name="text">The whole text.</param>
    /// <param name="from">Where to begin.</param>
    /// <param name="textEnd">Where the text before the token ends.</param>
    /// <param name="next">Where the text after the token begins.</param>
    /// <returns>The token, or null where there is none.</returns>
    public AddedToken? Find(ReadOnlySpan<char> text, int from, out int textEnd, out int next)
    {
        for (int searchFrom = from; _search is not null && text[searchFrom..].IndexOfAny(_search) is var found and >= 0;)
        {
            int at = searchFrom + found;
            foreach (int length in _lengths)
            {
                if (length > text.Length - at || !_bySpan.TryGetValue(text.Slice(at, length), out AddedToken? token))
                    continue;
                textEnd = at;
                next = at + token.Content.Length;
                if (token.SingleWord && ((at > 0 && IsWord(text[at - 1])) || (next < text.Length && IsWord(text[next]))))
                    continue;
                while (token.LStrip && textEnd > from && char.IsWhiteSpace(text[textEnd - 1]))
                    textEnd--;
                while (token.RStrip && next < text.Length && char.IsWhiteSpace(text[next]))
                    next++;
                return token;
            }

            searchFrom = at + 1;
        }

        textEnd = next = text.Length;
        return null;
    }

    private static bool IsWord(char c) => char.IsLetterOrDigit(c) || c == '_';
}
