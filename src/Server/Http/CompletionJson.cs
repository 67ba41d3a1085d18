// Answers as OpenAI's clients read them. Deliberately not: when they are sent (CompletionEndpoint).
using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using IptNative.Model.Tokenizer;
using IptNative.Server.Prompts;
using IptNative.Server.Scheduling;

namespace IptNative.Server.Http;

/// <summary>Writes objects of the API.</summary>
internal static class CompletionJson
{
    private static readonly JsonWriterOptions Readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>One JSON object as bytes.</summary>
    public static ReadOnlyMemory<byte> Object(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        using (var json = new Utf8JsonWriter(buffer, Readable))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }
        return buffer.WrittenMemory;
    }

    /// <summary>What every part of an answer starts with.</summary>
    public static void Head(Utf8JsonWriter json, string id, DateTimeOffset created, string model)
    {
        json.WriteString("id", id);
        json.WriteString("object", "text_completion");
        json.WriteNumber("created", created.ToUnixTimeSeconds());
        json.WriteString("model", model);
    }

    /// <summary>One entry of "choices".</summary>
    public static void Choice(Utf8JsonWriter json, int index, string text, IReadOnlyList<ToldToken>? tokens, string? finish, T5Tokenizer tokenizer)
    {
        json.WriteStartObject();
        json.WriteString("text", text);
        json.WriteNumber("index", index);
        if (tokens is null)
            json.WriteNull("logprobs");
        else
            LogProbs(json, tokens, tokenizer);
        if (finish is null)
            json.WriteNull("finish_reason");
        else
            json.WriteString("finish_reason", finish);
        json.WriteEndObject();
    }

    public static void Usage(Utf8JsonWriter json, int inputTokens, int generatedTokens)
    {
        json.WriteStartObject("usage");
        json.WriteNumber("prompt_tokens", inputTokens);
        json.WriteNumber("completion_tokens", generatedTokens);
        json.WriteNumber("total_tokens", inputTokens + generatedTokens);
        json.WriteEndObject();
    }

    /// <summary>A prompt as the list of models shows it.</summary>
    public static void Model(Utf8JsonWriter json, ServedPrompt prompt)
    {
        json.WriteString("id", prompt.Name);
        json.WriteString("object", "model");
        json.WriteNumber("created", prompt.Created.ToUnixTimeSeconds());
        json.WriteString("owned_by", "iptnative");
        json.WriteNumber("prompt_length", prompt.Prompt?.Length ?? 0);
    }

    public static ReadOnlyMemory<byte> Error(ApiException error) => Object(json =>
    {
        json.WriteStartObject("error");
        json.WriteString("message", error.Message);
        json.WriteString("type", error.Type);
        json.WriteString("param", error.Param);
        json.WriteString("code", error.Code);
        json.WriteEndObject();
    });

    private static void LogProbs(Utf8JsonWriter json, IReadOnlyList<ToldToken> tokens, T5Tokenizer tokenizer)
    {
        json.WriteStartObject("logprobs");
        json.WriteStartArray("tokens");
        foreach (ToldToken token in tokens)
            json.WriteStringValue(Piece(token.Id));
        json.WriteEndArray();
        json.WriteStartArray("token_logprobs");
        foreach (ToldToken token in tokens)
            json.WriteNumberValue(token.LogProb);
        json.WriteEndArray();
        json.WriteStartArray("top_logprobs");
        foreach (ToldToken token in tokens)
        {
            json.WriteStartObject();
            // Two pieces may be spelled alike; the likelier one comes first and keeps the key.
            foreach (IGrouping<string, Model.Decoding.TokenLogProb> same in token.Top.GroupBy(t => Piece(t.Id)))
                json.WriteNumber(same.Key, same.First().LogProb);
            // As OpenAI's: the token that was taken is there, whether it is one of the likeliest or not.
            string own = Piece(token.Id);
            if (!token.Top.Any(t => Piece(t.Id) == own))
                json.WriteNumber(own, token.LogProb);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartArray("text_offset");
        foreach (ToldToken token in tokens)
            json.WriteNumberValue(token.Offset);
        json.WriteEndArray();
        json.WriteEndObject();

        string Piece(int id) => tokenizer.IdToPiece(id).Replace('▁', ' ');
    }
}
