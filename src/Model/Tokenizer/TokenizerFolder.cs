// Reads spiece.model with the Hugging Face files beside it. Deliberately not: tokenizer.json (TokenizerJson), read only where there is no spiece.model.
using System.Globalization;
using System.Text.Json;
using IptNative.Model.Config;

namespace IptNative.Model.Tokenizer;

/// <summary>T5Tokenizer of a checkpoint folder: the model's pieces, sentinels behind them, special tokens recognised in text.</summary>
/// <remarks>Source: transformers tokenization_t5.py T5Tokenizer.__init__ (sentinels, legacy), tokenization_utils.py (added_tokens_decoder, added_tokens.json).</remarks>
internal static class TokenizerFolder
{
    public const string ModelName = "spiece.model";
    public const string JsonName = "tokenizer.json";
    private const string ConfigName = "tokenizer_config.json";
    private const string AddedName = "added_tokens.json";

    /// <summary>A bare spiece.model: SentencePiece itself, nothing but its pieces.</summary>
    public static TokenizerParts LoadBare(string path) => Parts(path, SentencePieceModel.Load(path), new AddedTokens([], path), null, null, legacy: true);

    public static TokenizerParts Load(string folder, int? vocabSize)
    {
        SentencePieceModel model = SentencePieceModel.Load(Path.Combine(folder, ModelName));
        string configPath = Path.Combine(folder, ConfigName);
        using JsonDocument? config = File.Exists(configPath) ? Parse(configPath) : null;
        JsonElement root = config?.RootElement ?? default;

        PieceTable pieces = model.Pieces;
        Dictionary<int, AddedToken> tokens = [];
        string? eos = TokenText(root, "eos_token"), pad = TokenText(root, "pad_token");
        foreach (string special in (string[])[eos ?? model.EosPiece, pad ?? model.PadPiece, TokenText(root, "unk_token") ?? pieces.IdToPiece(pieces.UnkId)])
        {
            if (pieces.PieceToId(special) is var id and >= 0)
                tokens[id] = new AddedToken(id, special, id != pieces.UnkId);
        }

        int sentinels = SentinelCount(root, configPath, pieces.Count, vocabSize);
        for (int i = 0; i < sentinels; i++)
        {
            int id = Sentinels.Id(pieces.Count, sentinels, i);
            tokens[id] = new AddedToken(id, Sentinels.Name(i), false) { LStrip = true, RStrip = true };
        }

        if (Property(root, "added_tokens_decoder") is { ValueKind: JsonValueKind.Object } decoder)
        {
            foreach (JsonProperty entry in decoder.EnumerateObject())
            {
                if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) || Property(entry.Value, "content") is not { ValueKind: JsonValueKind.String } content)
                    throw new InvalidDataException($"{configPath}: reading added_tokens_decoder: found the entry '{entry.Name}', expected an id with a 'content'. Copy the file again from the checkpoint's source.");
                tokens[id] = TokenizerJson.ReadAddedToken(id, content.GetString()!, entry.Value, pieces);
            }
        }

        string addedPath = Path.Combine(folder, AddedName);
        if (File.Exists(addedPath))
        {
            using JsonDocument added = Parse(addedPath);
            foreach (JsonProperty entry in added.RootElement.EnumerateObject())
            {
                if (entry.Value.ValueKind != JsonValueKind.Number || !entry.Value.TryGetInt32(out int id))
                    throw new InvalidDataException($"{addedPath}: reading the added tokens: found {entry.Value.GetRawText()} for '{entry.Name}', expected an id. Copy the file again from the checkpoint's source.");
                tokens.TryAdd(id, new AddedToken(id, entry.Name, false));
            }
        }

        foreach (AddedToken token in tokens.Values)
        {
            if (vocabSize is { } size && token.Id >= size)
                throw new InvalidDataException($"{folder}: reading the tokenizer: the token '{token.Content}' has id {token.Id}, config.json has vocab_size {size}. Use the tokenizer files of this checkpoint, or correct extra_ids in {ConfigName}.");
        }

        bool legacy = Property(root, "legacy") is not { ValueKind: JsonValueKind.False };
        return Parts(folder, model, new AddedTokens(tokens.Values, folder), eos, pad, legacy);
    }

    private static TokenizerParts Parts(string source, SentencePieceModel model, AddedTokens added, string? eos, string? pad, bool legacy)
    {
        // legacy=false: only the text's beginning gets a ▁ of its own, not what follows a sentinel.
        WhitespaceRules rules = legacy || model.Rules.Prefix == PrefixRule.Never ? model.Rules : model.Rules with { Prefix = PrefixRule.FirstWhereMissing };
        return new TokenizerParts
        {
            Source = source,
            Pieces = model.Pieces,
            Normalizer = new TextNormalizer(model.CharsMap, model.Pieces.UserDefined, rules),
            Added = added,
            EosId = IdOf(eos ?? model.EosPiece),
            PadId = IdOf(pad ?? model.PadPiece),
            UnkSurface = model.UnkSurface,
            StripsSpace = model.StripsSpace,
            StripsAllSpace = model.StripsAllSpace,
        };

        int IdOf(string name) => added.IdOf(name) ?? model.Pieces.PieceToId(name);
    }

    private static int SentinelCount(JsonElement root, string configPath, int pieces, int? vocabSize)
    {
        int listed = 0;
        if (Property(root, "additional_special_tokens") is { ValueKind: JsonValueKind.Array } list)
        {
            foreach (JsonElement item in list.EnumerateArray())
                listed += TokenText(item) is { } name && Sentinels.Index(name) >= 0 ? 1 : 0;
        }

        if (Property(root, "extra_ids") is not { ValueKind: JsonValueKind.Number } stated)
        {
            int count = listed > 0 ? listed : Sentinels.DefaultCount;
            // Where nobody asked for sentinels and the model has no rows for them, it has none.
            return listed == 0 && pieces + count > vocabSize ? 0 : count;
        }

        if (!stated.TryGetInt32(out int extraIds) || extraIds is < 0 or > Sentinels.MaxCount || (listed > 0 && extraIds != listed))
            throw new InvalidDataException($"{configPath}: reading extra_ids: found {stated.GetRawText()} with {listed} sentinels in additional_special_tokens, expected the same number, at most {Sentinels.MaxCount}. Copy the file again from the checkpoint's source.");
        return extraIds;
    }

    internal static JsonDocument Parse(string path)
    {
        try
        {
            byte[] bytes = SentencePieceModel.ReadBounded(path);
            JsonText.Require(bytes);
            JsonDocument document = JsonDocument.Parse(bytes);
            if (document.RootElement.ValueKind == JsonValueKind.Object)
                return document;
            document.Dispose();
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: reading the tokenizer: {e.Message} Expected JSON. Copy the file again from the checkpoint's source.", e);
        }

        throw new InvalidDataException($"{path}: reading the tokenizer: found no JSON object. Copy the file again from the checkpoint's source.");
    }

    internal static JsonElement? Property(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out JsonElement value) ? value : null;

    // Tokens are written as text or, in newer files, as an object with 'content'.
    internal static string? TokenText(JsonElement root, string name) => Property(root, name) is { } token ? TokenText(token) : null;

    private static string? TokenText(JsonElement token) =>
        token.ValueKind == JsonValueKind.String ? token.GetString() : Property(token, "content") is { ValueKind: JsonValueKind.String } content ? content.GetString() : null;
}
