// Reads tokenizer.json, Hugging Face's own format, where it describes a T5: Unigram with Metaspace. Deliberately not: BPE, WordPiece, byte-level or any other pipeline.
using System.Text.Json;

namespace IptNative.Model.Tokenizer;

/// <summary>Turns a tokenizer.json into the same parts that spiece.model gives.</summary>
/// <remarks>
/// The vocabulary is segmented by SentencePiece's rules in SentencePiece's precision, so that a checkpoint gives the same ids from either file.
/// Differs from HF tokenizers: scores are float, not double; the character map replaces the longest match, not whole grapheme clusters; a ▁ written in the text
/// after a space is kept beside the space's own.
/// Source: HF tokenizers models/unigram, normalizers, pre_tokenizers/metaspace.rs.
/// </remarks>
internal static class TokenizerJson
{
    /// <summary>Reads and checks a file.</summary>
    /// <exception cref="InvalidDataException">The file is damaged, or describes something else than a T5's tokenizer.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static TokenizerParts Load(string path)
    {
        using JsonDocument document = TokenizerFolder.Parse(path);
        try
        {
            return Read(path, document.RootElement);
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or KeyNotFoundException)
        {
            // What JsonElement throws for a value of the wrong kind or a missing one.
            throw Invalid(path, $"a value is missing or of the wrong kind ({e.Message})", e);
        }
    }

    /// <summary>Reads an added token's switches, which tokenizer.json and tokenizer_config.json write alike.</summary>
    public static AddedToken ReadAddedToken(int id, string content, JsonElement entry, PieceTable pieces) =>
        ReadAddedToken(id, content, entry, pieces.UnkId);

    private static AddedToken ReadAddedToken(int id, string content, JsonElement entry, int unkId) =>
        new(id, content, Flag(entry, "special") && id != unkId && Sentinels.Index(content) < 0)
        {
            LStrip = Flag(entry, "lstrip"),
            RStrip = Flag(entry, "rstrip"),
            SingleWord = Flag(entry, "single_word"),
        };

    private static TokenizerParts Read(string path, JsonElement root)
    {
        JsonElement model = root.GetProperty("model");
        string type = TokenizerFolder.TokenText(model, "type") ?? (TokenizerFolder.Property(model, "merges") is null ? "Unigram" : "BPE"); // Files before tokenizers 0.10 name no type.
        if (type != "Unigram")
            throw Invalid(path, $"found the model type '{type}', expected 'Unigram', the type of every T5");
        if (TokenizerFolder.Property(model, "unk_id") is not { ValueKind: JsonValueKind.Number } unk || !unk.TryGetInt32(out int unkId))
            throw Invalid(path, "found no unk_id, expected the id of the unknown piece");
        bool byteFallback = Flag(model, "byte_fallback");

        PieceTable.Builder builder = new(path);
        foreach (JsonElement entry in model.GetProperty("vocab").EnumerateArray())
        {
            if (entry.GetArrayLength() != 2)
                throw Invalid(path, $"piece {builder.Count} has {entry.GetArrayLength()} values, expected its text and its score");
            string piece = entry[0].GetString() ?? "";
            bool isByte = byteFallback && piece.Length == 6 && piece.StartsWith("<0x", StringComparison.Ordinal) && piece[5] == '>';
            builder.Add(System.Text.Encoding.UTF8.GetBytes(piece), entry[1].GetDouble(), isByte ? PieceType.Byte : PieceType.Normal);
        }

        if (unkId < 0 || unkId >= builder.Count)
            throw Invalid(path, $"found unk_id {unkId}, expected 0 to {builder.Count - 1}");
        List<AddedToken> tokens = [];
        if (TokenizerFolder.Property(root, "added_tokens") is { ValueKind: JsonValueKind.Array } added)
        {
            foreach (JsonElement entry in added.EnumerateArray())
            {
                AddedToken token = ReadAddedToken(entry.GetProperty("id").GetInt32(), entry.GetProperty("content").GetString() ?? "", entry, unkId);
                tokens.Add(token);
                // Never matched as pieces: they are cut out of the text before.
                if (token.Id >= 0 && token.Id < builder.Count && Flag(entry, "special"))
                    builder.SetType(token.Id, token.IsControl ? PieceType.Control : PieceType.Unused);
            }
        }

        builder.SetType(unkId, PieceType.Unknown);
        PieceTable pieces = builder.Build(byteFallback);
        AddedTokens addedTokens = new(tokens, path);
        (TextNormalizer normalizer, Func<string, string>? rewrite, bool hasPrefix) = JsonPipeline.Read(path, root);

        string configPath = Path.Combine(Path.GetDirectoryName(path) ?? "", "tokenizer_config.json");
        using JsonDocument? config = File.Exists(configPath) ? TokenizerFolder.Parse(configPath) : null;
        JsonElement settings = config?.RootElement ?? default;
        return new TokenizerParts
        {
            Source = path,
            Pieces = pieces,
            Normalizer = normalizer,
            Rewrite = rewrite,
            Added = addedTokens,
            EosId = IdOf(TokenizerFolder.TokenText(settings, "eos_token") ?? "</s>"),
            PadId = IdOf(TokenizerFolder.TokenText(settings, "pad_token") ?? "<pad>"),
            StripsSpace = hasPrefix,
            StripsAllSpace = hasPrefix,
        };

        int IdOf(string name) => addedTokens.IdOf(name) ?? pieces.PieceToId(name);
    }

    internal static bool Flag(JsonElement element, string name) => TokenizerFolder.Property(element, name) is { ValueKind: JsonValueKind.True };

    internal static InvalidDataException Invalid(string path, string found, Exception? inner = null) =>
        new($"{path}: reading tokenizer.json: {found}. Give the checkpoint's spiece.model, or a tokenizer.json of a T5.", inner);
}
