// The body of POST /v1/completions, checked field by field. Deliberately not: tokenizing, which needs the model.
using System.Globalization;
using System.Text.Json;
using IptNative.Model.Decoding;

namespace IptNative.Server.Http;

/// <summary>An input: a text, or token ids.</summary>
internal readonly record struct CompletionInput(string? Text, int[]? Ids);

/// <summary>What a client asks for.</summary>
/// <remarks>
/// OpenAI's fields, with its meanings. Differs from OpenAI: temperature is 0 and max_tokens 64 where they are left out, because a tuned prompt is tuned
/// for the model's likeliest answer; top_k and min_tokens are additions; fields that would change the answer and that a T5 cannot honour are refused, never passed over in silence.
/// </remarks>
internal sealed record CompletionRequest
{
    private const int MaxStops = 4, MaxStopLength = 256, MaxLogProbs = 5, DefaultMaxTokens = 64;

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = 8 };

    public required string Model { get; init; }

    public required IReadOnlyList<CompletionInput> Inputs { get; init; }

    public required GenerationOptions Options { get; init; }

    public IReadOnlyList<string> Stop { get; init; } = [];

    public int? LogProbs { get; init; }

    public bool Stream { get; init; }

    public bool StreamUsage { get; init; }

    public static CompletionRequest Parse(ReadOnlyMemory<byte> body, ServerOptions limits)
    {
        try
        {
            using var json = JsonDocument.Parse(body, Strict);
            return Read(json.RootElement, limits);
        }
        catch (JsonException e)
        {
            throw new ApiException(400, $"The body is no JSON object: {e.Message}");
        }
        catch (InvalidOperationException)
        {
            // A lone surrogate escape: valid JSON, no text.
            throw new ApiException(400, "The body has a text that is not UTF-8, or half a surrogate pair (\\ud800 to \\udfff alone), expected characters.");
        }
    }

    private static CompletionRequest Read(JsonElement root, ServerOptions limits)
    {
        if (root.ValueKind != JsonValueKind.Object)
            throw new ApiException(400, $"The body is a JSON {root.ValueKind.ToString().ToLowerInvariant()}, expected an object with 'model' and 'prompt'.");
        string? model = null;
        List<CompletionInput>? inputs = null;
        var request = new CompletionRequest { Model = "", Inputs = [], Options = new GenerationOptions { TopK = 0 } };
        int n = 1, minTokens = 0, maxTokens = Math.Min(DefaultMaxTokens, limits.MaxTokens);
        int? bestOf = null;
        double temperature = 0, topP = 1;
        long? seed = null;
        int topK = 0;
        bool streamOptions = false;
        foreach (JsonProperty field in root.EnumerateObject())
        {
            JsonElement value = field.Value;
            // OpenAI's clients send null for what was not set.
            if (value.ValueKind == JsonValueKind.Null && field.Name is not ("model" or "prompt"))
                continue;
            switch (field.Name)
            {
                case "model": model = Text(field); break;
                case "prompt": inputs = Prompt(field, limits.MaxChoices); break;
                case "n": n = Integer(field, 1, limits.MaxChoices); break;
                case "best_of": bestOf = Integer(field, 1, limits.MaxChoices); break;
                case "max_tokens": maxTokens = Integer(field, 1, limits.MaxTokens); break;
                case "min_tokens": minTokens = Integer(field, 0, limits.MaxTokens); break;
                case "temperature": temperature = Number(field, 0, 2); break;
                case "top_p": topP = Number(field, 0, 1); break;
                case "top_k": topK = Integer(field, 0, int.MaxValue); break;
                case "seed": seed = Integer64(field); break;
                case "logprobs": request = request with { LogProbs = Integer(field, 0, MaxLogProbs) }; break;
                case "stop": request = request with { Stop = Stops(field) }; break;
                case "stream": request = request with { Stream = Flag(field) }; break;
                case "stream_options": (request, streamOptions) = (request with { StreamUsage = Usage(field) }, true); break;
                case "user": Text(field); break;
                case "echo": Only(field, value.ValueKind == JsonValueKind.False, "false: the input is the encoder's, and no part of the answer"); break;
                case "suffix": Only(field, value.ValueKind == JsonValueKind.String && value.GetString() is "", "null: a T5 fills no gaps here"); break;
                case "logit_bias": Only(field, value.ValueKind == JsonValueKind.Object && !value.EnumerateObject().Any(), "an empty object"); break;
                case "presence_penalty" or "frequency_penalty": Number(field, 0, 0); break;
                default: throw new ApiException(400, $"'{Shown(field.Name)}' is no field of a completion request.", Shown(field.Name));
            }
        }
        if (string.IsNullOrEmpty(model))
            throw new ApiException(400, "'model' is missing, expected the name of a prompt; GET /v1/models lists them.", "model");
        if (inputs is null)
            throw new ApiException(400, "'prompt' is missing, expected a text or an array of texts.", "prompt");
        if (bestOf is { } candidates && candidates != n)
            throw new ApiException(400, $"'best_of' is {candidates} and n is {n}, expected them to be equal: every text that is generated is returned.", "best_of");
        if (streamOptions && !request.Stream)
            throw new ApiException(400, "'stream_options' was given without 'stream': true.", "stream_options");
        if ((long)n * inputs.Count > limits.MaxChoices)
            throw new ApiException(400, $"{inputs.Count} inputs with n = {n} are {(long)n * inputs.Count} texts, expected at most {limits.MaxChoices} in one request.", "n");
        if (minTokens >= maxTokens)
            throw new ApiException(400, $"'min_tokens' is {minTokens} and max_tokens is {maxTokens}, expected fewer.", "min_tokens");
        if (topP == 0)
            throw new ApiException(400, "'top_p' is 0, expected a number above 0 and up to 1. For the likeliest answer leave temperature at 0.", "top_p");
        return request with
        {
            Model = model,
            Inputs = inputs,
            Options = new GenerationOptions
            {
                MaxLength = maxTokens,
                MinLength = minTokens,
                NumReturnSequences = n,
                DoSample = temperature > 0,
                Temperature = temperature > 0 ? temperature : 1,
                TopP = topP,
                TopK = topK,
                Seed = seed ?? Random.Shared.NextInt64(),
            },
        };
    }

    private static List<CompletionInput> Prompt(JsonProperty field, int most)
    {
        const string expected = "a text, an array of texts, an array of token ids, or an array of such arrays";
        JsonElement value = field.Value;
        if (value.ValueKind == JsonValueKind.String)
            return [new CompletionInput(value.GetString(), null)];
        if (value.ValueKind != JsonValueKind.Array || value.GetArrayLength() == 0)
            throw Wrong(field, expected);
        if (value[0].ValueKind == JsonValueKind.Number)
            return [new CompletionInput(null, Ids(value))];
        if (value.GetArrayLength() > most)
            throw new ApiException(400, $"'prompt' has {value.GetArrayLength()} inputs, expected at most {most} in one request.", "prompt");
        return [.. value.EnumerateArray().Select(item => item.ValueKind switch
        {
            JsonValueKind.String => new CompletionInput(item.GetString(), null),
            JsonValueKind.Array => new CompletionInput(null, Ids(item)),
            _ => throw Wrong(field, expected),
        })];

        int[] Ids(JsonElement array) => [.. array.EnumerateArray().Select(id => id.ValueKind == JsonValueKind.Number && id.TryGetInt32(out int number) ? number : throw Wrong(field, expected))];
    }

    private static string[] Stops(JsonProperty field)
    {
        JsonElement value = field.Value;
        string[] stops = value.ValueKind switch
        {
            JsonValueKind.String => [value.GetString()!], // it is a string
            JsonValueKind.Array => [.. value.EnumerateArray().Select(s => s.ValueKind == JsonValueKind.String ? s.GetString()! : throw Wrong(field, Expected))],
            _ => throw Wrong(field, Expected),
        };
        return stops.Length <= MaxStops && stops.All(s => s.Length is > 0 and <= MaxStopLength) ? stops : throw Wrong(field, Expected);
    }

    private static string Expected => $"a text or an array of up to {MaxStops} texts, each of 1 to {MaxStopLength} characters";

    private static bool Usage(JsonProperty field)
    {
        if (field.Value.ValueKind != JsonValueKind.Object)
            throw Wrong(field, "an object with 'include_usage'");
        bool usage = false;
        foreach (JsonProperty option in field.Value.EnumerateObject())
        {
            if (option.Name is not ("include_usage" or "include_obfuscation"))
                throw new ApiException(400, $"'stream_options.{Shown(option.Name)}' is unknown, expected 'include_usage'.", "stream_options");
            if (option.Name == "include_usage")
                usage = Flag(option);
        }
        return usage;
    }

    private static string Text(JsonProperty field) => field.Value.ValueKind == JsonValueKind.String ? field.Value.GetString()! : throw Wrong(field, "a text"); // it is a string

    private static bool Flag(JsonProperty field) => field.Value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong(field, "true or false"),
    };

    private static int Integer(JsonProperty field, int least, int most) =>
        field.Value.ValueKind == JsonValueKind.Number && field.Value.TryGetInt32(out int value) && value >= least && value <= most ? value : throw Wrong(field, $"a whole number from {least} to {most}");

    private static long Integer64(JsonProperty field) =>
        field.Value.ValueKind == JsonValueKind.Number && field.Value.TryGetInt64(out long value) ? value : throw Wrong(field, "a whole number of 64 bits");

    private static double Number(JsonProperty field, double least, double most) =>
        field.Value.ValueKind == JsonValueKind.Number && field.Value.TryGetDouble(out double value) && value >= least && value <= most ? value
            : throw Wrong(field, least == most ? string.Create(CultureInfo.InvariantCulture, $"{least}") : string.Create(CultureInfo.InvariantCulture, $"a number from {least} to {most}"));

    private static void Only(JsonProperty field, bool ok, string expected)
    {
        if (!ok)
            throw Wrong(field, expected);
    }

    private static ApiException Wrong(JsonProperty field, string expected) => new(400, $"'{field.Name}' is {Shown(field.Value.GetRawText())}, expected {expected}.", field.Name);

    private static string Shown(string text) => text.Length > 60 ? text[..60] + "…" : text;
}
