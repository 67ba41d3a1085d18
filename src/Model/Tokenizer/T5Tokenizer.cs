// Text to ids and back, as T5 checkpoints do it. Deliberately not: padding, truncation, batches, chat templates.
using System.Text;

namespace IptNative.Model.Tokenizer;

/// <summary>The tokenizer of a T5: SentencePiece Unigram, with Hugging Face's special tokens around it.</summary>
/// <remarks>
/// A bare <c>.model</c> file is SentencePiece itself: ids equal spm_encode's, and "&lt;/s&gt;" or "&lt;extra_id_0&gt;" in a text are ordinary characters.
/// A folder is Hugging Face's T5Tokenizer. In the raw text, before any normalisation, the exact spellings of the control tokens (&lt;pad&gt;, &lt;/s&gt;), of &lt;unk&gt;, of the sentinels
/// &lt;extra_id_0&gt; to &lt;extra_id_N&gt; and of user-added tokens become their ids: leftmost first, then longest; "&lt;extra_id_100&gt;", "&lt;EXTRA_ID_0&gt;" and "&lt;extra_id_00&gt;" are
/// ordinary text. White space on both sides of a sentinel belongs to it (lstrip and rstrip, unless the files say otherwise), and the text between two tokens is segmented
/// on its own: after a sentinel a word begins with ▁ again, unless tokenizer_config.json has legacy=false.
/// Lone surrogates are read as U+FFFD, which T5's character map turns into a space. Thread-safe.
/// Differs from HF's fast tokenizers: the character map replaces the longest match, as SentencePiece does, not whole grapheme clusters by the shortest one.
/// Source: sentencepiece (normalizer.cc, unigram_model.cc, sentencepiece_processor.cc); transformers tokenization_t5.py.
/// </remarks>
public sealed partial class T5Tokenizer
{
    // A thread keeps its buffer between calls up to this size; a rare huge text does not pin its memory.
    private const long MaxKeptBytes = 1 << 20;

    [ThreadStatic]
    private static TokenBuffer? t_buffer;

    private readonly TokenizerParts _parts;
    private readonly PieceTable _pieces;
    private readonly AddedTokens _added;
    private readonly UnigramSegmenter _segmenter;
    private readonly int? _vocabSize;

    private T5Tokenizer(TokenizerParts parts, int? vocabSize)
    {
        _parts = parts;
        _pieces = parts.Pieces;
        _added = parts.Added;
        _segmenter = new UnigramSegmenter(parts.Pieces);
        _vocabSize = vocabSize;
        Count = Math.Max(_pieces.Count, _added.IdEnd);
        if (_pieces.Count > vocabSize)
            throw new InvalidDataException($"{parts.Source}: reading the tokenizer: it has {_pieces.Count} pieces, config.json has vocab_size {vocabSize}. Use the tokenizer files of this checkpoint.");
        while (_added.IdOf(Sentinels.Name(SentinelCount)) is not null)
            SentinelCount++;
    }

    /// <summary>Number of ids the tokenizer knows: pieces, sentinels and added tokens. A checkpoint's vocab_size may be larger.</summary>
    public int Count { get; }

    /// <summary>Number of sentinels: 100 for T5, 0 for a bare spiece.model.</summary>
    public int SentinelCount { get; }

    /// <summary>Id of unknown text.</summary>
    public int UnkId => _pieces.UnkId;

    /// <summary>Id of the end of sequence; -1 where the vocabulary has none.</summary>
    public int EosId => _parts.EosId;

    /// <summary>Id of padding; -1 where the vocabulary has none.</summary>
    public int PadId => _parts.PadId;

    /// <summary>Reads a tokenizer.</summary>
    /// <param name="path">A checkpoint's folder (spiece.model is preferred to tokenizer.json), a SentencePiece model, or a tokenizer.json.</param>
    /// <param name="vocabSize">Rows of the checkpoint's embedding; null where unknown. Ids from <see cref="Count"/> to here are legal but nameless.</param>
    /// <returns>The tokenizer.</returns>
    /// <exception cref="FileNotFoundException">There is no such file, or the folder holds no tokenizer.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, of another model type, or larger than vocabSize.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static T5Tokenizer Load(string path, int? vocabSize = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (vocabSize is { } size)
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(size, nameof(vocabSize));
        return new T5Tokenizer(LoadParts(path, vocabSize), vocabSize);
    }

    /// <summary>The id of a sentinel.</summary>
    /// <param name="index">0 to <see cref="SentinelCount"/> - 1.</param>
    /// <returns>The id of &lt;extra_id_index&gt;.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sentinel.</exception>
    public int SentinelId(int index) =>
        index >= 0 && _added.IdOf(Sentinels.Name(index)) is { } id
            ? id
            : throw new ArgumentOutOfRangeException(nameof(index), index, $"There is no sentinel {Sentinels.Name(index)}: the tokenizer has {SentinelCount}.");

    /// <summary>True for the id of an &lt;extra_id_i&gt;.</summary>
    /// <param name="id">Any id.</param>
    /// <returns>Whether it is a sentinel's.</returns>
    public bool IsSentinel(int id) => _added.ById(id) is { } token && Sentinels.Index(token.Content) >= 0;

    /// <summary>True for an id of the vocabulary's own text: no control, unknown or byte piece, no sentinel or added token.</summary>
    /// <param name="id">Any id.</param>
    /// <returns>Whether it is a piece that the vocabulary was trained to have; these are in order of frequency.</returns>
    public bool IsOrdinary(int id) => id >= 0 && id < _pieces.Count && _pieces.Type(id) == PieceType.Normal && _added.ById(id) is null;

    /// <summary>Ids of a text.</summary>
    /// <param name="text">Any UTF-16; lone surrogates are read as U+FFFD.</param>
    /// <param name="addEos">Whether <see cref="EosId"/> follows.</param>
    /// <returns>A new array.</returns>
    /// <exception cref="InvalidOperationException">addEos where the vocabulary has no end of sequence.</exception>
    public int[] Encode(string text, bool addEos)
    {
        ArgumentNullException.ThrowIfNull(text);
        TokenBuffer buffer = Rent();
        Encode(text, addEos, buffer);
        int[] ids = buffer.Ids.ToArray();
        Return(buffer);
        return ids;
    }

    /// <summary>Ids of a text, into reused memory.</summary>
    /// <param name="text">Any UTF-16; lone surrogates are read as U+FFFD.</param>
    /// <param name="addEos">Whether <see cref="EosId"/> follows.</param>
    /// <param name="buffer">Overwritten; holds the ids afterwards.</param>
    /// <exception cref="InvalidOperationException">addEos where the vocabulary has no end of sequence.</exception>
    public void Encode(ReadOnlySpan<char> text, bool addEos, TokenBuffer buffer)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        if (addEos && EosId < 0)
            throw new InvalidOperationException($"{_parts.Source}: encoding with an end of sequence: the vocabulary has no such token. Encode without it.");
        buffer.Clear();
        bool isFirst = true;
        for (int from = 0; from < text.Length;)
        {
            AddedToken? token = _added.Find(text, from, out int textEnd, out int next);
            EncodeStretch(text[from..textEnd], isFirst, buffer);
            if (token is not null)
                buffer.Add(token.Id);
            isFirst = false;
            from = next;
        }

        if (addEos)
            buffer.Add(EosId);
    }

    /// <summary>Pieces of a text, without an end of sequence; unknown text stands as it was normalised.</summary>
    /// <param name="text">Any UTF-16.</param>
    /// <returns>One piece per id of <see cref="Encode(string, bool)"/>.</returns>
    public IReadOnlyList<string> EncodeToPieces(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        TokenBuffer buffer = Rent();
        Encode(text, false, buffer);
        string[] pieces = Pieces(buffer);
        Return(buffer);
        return pieces;
    }

    /// <summary>Pieces of the text that a buffer holds.</summary>
    /// <param name="buffer">As <see cref="Encode(ReadOnlySpan{char}, bool, TokenBuffer)"/> of this tokenizer left it.</param>
    /// <returns>One piece per id.</returns>
    public string[] Pieces(TokenBuffer buffer)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        string[] pieces = new string[buffer.Count];
        for (int i = 0; i < pieces.Length; i++)
            pieces[i] = buffer.Surface(i) is { IsEmpty: false } surface ? Encoding.UTF8.GetString(surface) : IdToPiece(buffer.Ids[i]);
        return pieces;
    }

    /// <summary>The piece of an id.</summary>
    /// <param name="id">0 or more.</param>
    /// <returns>The piece; for an id that only the checkpoint's embedding has, &lt;unused_id&gt;.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The id is negative, or outside the checkpoint's vocabulary where that is known.</exception>
    public string IdToPiece(int id)
    {
        if (id < 0 || id >= _vocabSize)
            throw new ArgumentOutOfRangeException(nameof(id), id, $"Decoding the id {id}: expected 0 to {(_vocabSize ?? int.MaxValue) - 1L}.");
        return _added.ById(id)?.Content ?? (id < _pieces.Count ? _pieces.IdToPiece(id) : $"<unused_{id}>");
    }

    /// <summary>The id of a piece, a special token or an added token.</summary>
    /// <param name="piece">Its exact text, ▁ for a space.</param>
    /// <returns>The id, or null where there is none.</returns>
    public int? PieceToId(string piece)
    {
        ArgumentNullException.ThrowIfNull(piece);
        return _added.IdOf(piece) ?? (_pieces.PieceToId(piece) is var id and >= 0 ? id : null);
    }

    private static TokenizerParts LoadParts(string path, int? vocabSize)
    {
        if (Directory.Exists(path))
        {
            string json = Path.Combine(path, TokenizerFolder.JsonName);
            if (File.Exists(Path.Combine(path, TokenizerFolder.ModelName)))
                return TokenizerFolder.Load(path, vocabSize);
            return File.Exists(json)
                ? TokenizerJson.Load(json)
                : throw new FileNotFoundException($"{path}: reading the tokenizer: found neither {TokenizerFolder.ModelName} nor {TokenizerFolder.JsonName}. Copy one of them from the checkpoint's source into the folder.", path);
        }

        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: reading the tokenizer: there is no such file or folder. Give a checkpoint's folder, a spiece.model or a tokenizer.json.", path);
        return path.EndsWith(".json", StringComparison.OrdinalIgnoreCase) ? TokenizerJson.Load(path) : TokenizerFolder.LoadBare(path);
    }

    private static TokenBuffer Rent()
    {
        TokenBuffer buffer = t_buffer ?? new TokenBuffer();
        t_buffer = null;
        return buffer;
    }

    private static void Return(TokenBuffer buffer)
    {
        if (buffer.HeldBytes <= MaxKeptBytes)
            t_buffer = buffer;
    }

    private void EncodeStretch(ReadOnlySpan<char> text, bool isFirst, TokenBuffer buffer)
    {
        if (text.IsEmpty)
            return;
        if (_parts.Rewrite is { } rewrite)
            text = rewrite(text.ToString());
        // Three bytes per UTF-16 unit is the most UTF-8 can take; a lone surrogate becomes U+FFFD, three bytes too.
        int most = checked(text.Length * 3);
        if (buffer.Utf8.Length < most)
            buffer.Utf8 = new byte[(int)Math.Min(Array.MaxLength, Math.Max(most, buffer.Utf8.Length * 2L))];
        int bytes = Encoding.UTF8.GetBytes(text, buffer.Utf8);
        (int start, int end) = _parts.Normalizer.Normalize(buffer.Utf8.AsSpan(0, bytes), isFirst, buffer);
        _segmenter.Segment(buffer, start, end);
    }
}
