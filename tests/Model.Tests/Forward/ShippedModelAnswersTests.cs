// Texts in, ids out: the shipped checkpoint against PyTorch's greedy answers, and the T5 of the goldens against PyTorch's beam search.
using System.Text.Json;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Decoding;
using IptNative.Model.Tokenizer;
using Xunit;

namespace IptNative.Model.Tests.Forward;

public sealed class RuntimeShippedModelAnswersTests() : ShippedModelAnswersTests(ForwardEngine.Ort);

public sealed class NativeShippedModelAnswersTests() : ShippedModelAnswersTests(ForwardEngine.Native);

public abstract class ShippedModelAnswersTests : IDisposable
{
    private static readonly string Folder = Path.GetFullPath(Path.Combine(Goldens.Folder, "..", "..", "..", "models", "t5-gym-tiny"));

    // The goldens' inputs were cut to so many tokens, the end of sequence included; their answers stop after so many.
    private const int MaxSource = 128, MaxLength = 24;

    private readonly Checkpoint _checkpoint = Checkpoint.Open(Folder);
    private readonly T5Tokenizer _tokenizer;
    private readonly FrozenT5 _model;
    private readonly ForwardEngine _engine;

    protected ShippedModelAnswersTests(ForwardEngine engine)
    {
        _engine = engine;
        _tokenizer = T5Tokenizer.Load(Folder, _checkpoint.Config.VocabSize);
        _model = FrozenT5.Load(_checkpoint, new FrozenT5Options { Threads = 2, Generation = engine });
    }

    [Fact]
    public void GreedyAnswersArePyTorchs()
    {
        (int[] Input, int[] Answer)[] goldens = [.. Lines()];
        Assert.Equal(120, goldens.Length);
        var options = new GenerationOptions { MaxLength = MaxLength };
        for (int from = 0; from < goldens.Length; from += 8)
        {
            (int[] Input, int[] Answer)[] some = goldens[from..Math.Min(from + 8, goldens.Length)];
            IReadOnlyList<GeneratedSequence>[] answers = Answer([.. some.Select(g => g.Input)], options);
            for (int i = 0; i < some.Length; i++)
                Assert.True(some[i].Answer.SequenceEqual(answers[i][0].Ids), $"line {from + i + 1}: expected [{string.Join(' ', some[i].Answer)}], got [{string.Join(' ', answers[i][0].Ids)}]");
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void ABatchOfUnequalLengthsAnswersAsOneByOne(int beams)
    {
        // The shortest and the longest together: most of the batch is padding.
        int[][] inputs = [.. Lines().Select(g => g.Input).OrderBy(ids => ids.Length)];
        inputs = [.. inputs[..5], .. inputs[^4..]];
        Assert.True(inputs[^1].Length > 4 * inputs[0].Length, $"{inputs[0].Length} and {inputs[^1].Length} tokens");
        var options = new GenerationOptions { MaxLength = MaxLength, NumBeams = beams };
        IReadOnlyList<GeneratedSequence>[] together = Answer(inputs, options);
        for (int i = 0; i < inputs.Length; i++)
        {
            GeneratedSequence alone = Answer([inputs[i]], options)[0][0];
            Assert.Equal(alone.Ids, together[i][0].Ids);
            // A sum of some twenty log probabilities; padding changes only in which order ONNX Runtime adds up, 1e-6 of each.
            Assert.Equal(alone.Score, together[i][0].Score, 1e-3);
        }
    }

    [Fact]
    public void BeamSearchOverTheGoldensModelIsPyTorchs()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Golden();
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 2, Generation = _engine });
        using var prompt = new PromptMemory(model.Device, 32, Goldens.Load("prompt").Floats, 10);
        int[] ids = Goldens.Load("input_ids").Ints, mask = Goldens.Load("attention_mask").Ints;
        JsonElement file = BeamTraces.Load("model.json");
        int start = file.GetProperty("decoder_start_token_id").GetInt32(), compared = 0, traces = 0;
        foreach (JsonElement trace in file.GetProperty("cases").EnumerateArray())
        {
            bool prompted = trace.GetProperty("prompt").GetBoolean();
            var batch = new T5Batch();
            for (int b = 0; b < 4; b++)
                batch.Add(ids.AsSpan(b * 24, mask.AsSpan(b * 24, 24).Count(1)), prompt: prompted ? 0 : -1);
            using IStepDecoder decoder = model.StartDecoding(model.Encode(batch, prompted ? prompt.Table : null));
            // The trace is float64. Logits of up to 26 are off by 4e-5 (FrozenT5GoldenTests), nine of them are added up.
            compared += BeamTraces.Compare(trace, Generator.Generate(decoder, BeamTraces.Options(trace), start, trace.GetProperty("eos_token_id").GetInt32()), 4e-4);
            traces++;
        }
        Assert.Equal(120, traces);
        // Nearly all of 120 x 4: only close calls are left out of a trace.
        Assert.InRange(compared, 400, 480);
    }

    // Each engine computes a logit's last digits its own way; what is written must not depend on it.
    [Fact]
    public void SampledAnswersAreTheOtherEnginesToo()
    {
        using FrozenT5 other = FrozenT5.Load(_checkpoint, new FrozenT5Options { Threads = 1, Generation = _engine == ForwardEngine.Native ? ForwardEngine.Ort : ForwardEngine.Native });
        int[][] inputs = [.. Lines().Take(6).Select(g => g.Input)];
        foreach (GenerationOptions options in (GenerationOptions[])[new() { MaxLength = MaxLength, DoSample = true, NumReturnSequences = 3, Seed = 5 }, new() { MaxLength = MaxLength, NumBeams = 3, NumReturnSequences = 3 }])
        {
            IReadOnlyList<GeneratedSequence>[] expected = Answer(other, inputs, options), actual = Answer(inputs, options);
            for (int i = 0; i < inputs.Length; i++)
                Assert.Equal(expected[i].Select(s => string.Join(' ', s.Ids)), actual[i].Select(s => string.Join(' ', s.Ids)));
        }
    }

    public void Dispose()
    {
        _model.Dispose();
        _checkpoint.Dispose();
        GC.SuppressFinalize(this);
    }

    private IReadOnlyList<GeneratedSequence>[] Answer(int[][] inputs, GenerationOptions options) => Answer(_model, inputs, options);

    private static IReadOnlyList<GeneratedSequence>[] Answer(FrozenT5 model, int[][] inputs, GenerationOptions options)
    {
        var batch = new T5Batch();
        foreach (int[] input in inputs)
            batch.Add(input);
        using IStepDecoder decoder = model.StartDecoding(model.Encode(batch));
        return Generator.Generate(decoder, options, model.Config.DecoderStartTokenId, model.Config.EosTokenId);
    }

    private IEnumerable<(int[] Input, int[] Answer)> Lines()
    {
        foreach (string line in File.ReadLines(Path.Combine(Goldens.Folder, "..", "t5-gym-tiny", "greedy.golden.jsonl")))
        {
            using JsonDocument json = JsonDocument.Parse(line);
            int[] ids = _tokenizer.Encode(json.RootElement.GetProperty("input").GetString()!, addEos: true); // written by our own script
            if (ids.Length > MaxSource)
                ids = [.. ids[..(MaxSource - 1)], _tokenizer.EosId];
            yield return (ids, [.. json.RootElement.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())]);
        }
    }
}
