// Reads the traces of tests/Goldens/t5v11_beam (made by tools/export_onnx/make_beam_trace.py) and compares a search with them.
using System.Text.Json;
using IptNative.Model.Decoding;
using Xunit;

namespace IptNative.Model.Tests.Decoding;

internal static class BeamTraces
{
    public static JsonElement Load(string name)
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "IptNative.sln"))) folder = folder.Parent;
        Assert.NotNull(folder);
        return JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder.FullName, "tests", "Goldens", "t5v11_beam", name))).RootElement;
    }

    public static GenerationOptions Options(JsonElement trace)
    {
        JsonElement early = trace.GetProperty("early_stopping");
        return new GenerationOptions
        {
            NumBeams = trace.GetProperty("num_beams").GetInt32(),
            NumReturnSequences = trace.GetProperty("num_beams").GetInt32(),
            LengthPenalty = trace.GetProperty("length_penalty").GetDouble(),
            EarlyStopping = early.ValueKind switch { JsonValueKind.True => EarlyStopping.True, JsonValueKind.False => EarlyStopping.False, _ => EarlyStopping.Never },
            MaxLength = trace.GetProperty("max_length").GetInt32(),
            CountDecoderStart = trace.GetProperty("count_decoder_start").GetBoolean(),
            ReturnLogProbs = true,
        };
    }

    /// <summary>Checks ids, ends and scores of all returned hypotheses.</summary>
    /// <returns>Number of examples compared.</returns>
    public static int Compare(JsonElement trace, IReadOnlyList<GeneratedSequence>[] actual, double tolerance)
    {
        GenerationOptions options = Options(trace);
        int compared = 0;
        int e = 0;
        foreach (JsonElement expected in trace.GetProperty("expected").EnumerateArray())
        {
            IReadOnlyList<GeneratedSequence> texts = actual[e++];
            if (expected.ValueKind == JsonValueKind.Null) continue;
            compared++;
            Assert.Equal(expected.GetArrayLength(), texts.Count);
            for (int h = 0; h < texts.Count; h++)
            {
                bool eos = expected[h].GetProperty("eos").GetBoolean();
                int[] ids = [.. expected[h].GetProperty("ids").EnumerateArray().Select(i => i.GetInt32())];
                Assert.True(ids.SequenceEqual(texts[h].Ids), $"example {e - 1}, hypothesis {h}: expected [{string.Join(' ', ids)}], got [{string.Join(' ', texts[h].Ids)}]; trace {trace.GetRawText()[..140]}");
                Assert.Equal(eos ? FinishReason.EndOfSequence : FinishReason.MaxLength, texts[h].Finish);
                Assert.Equal(expected[h].GetProperty("score").GetDouble(), texts[h].Score, tolerance);
                float[] logProbs = texts[h].TokenLogProbs!; // asked for in Options
                Assert.Equal(ids.Length + (eos ? 1 : 0), logProbs.Length);
                int length = logProbs.Length + (!eos && options.CountDecoderStart ? 1 : 0);
                Assert.Equal(texts[h].Score, logProbs.Sum(p => (double)p) / Math.Pow(length, options.LengthPenalty), tolerance);
            }
        }
        return compared;
    }
}
