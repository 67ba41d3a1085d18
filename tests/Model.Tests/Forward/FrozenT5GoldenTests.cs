using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Config;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using Xunit;

namespace IptNative.Model.Tests.Forward;

/// <summary>Answers in ONNX Runtime.</summary>
public sealed class RuntimeFrozenT5GoldenTests() : FrozenT5GoldenTests(ForwardEngine.Ort);

/// <summary>Answers in our own kernels.</summary>
public sealed class NativeFrozenT5GoldenTests() : FrozenT5GoldenTests(ForwardEngine.Native);

/// <summary>Hugging Face's figures, computed by PyTorch, against ours.</summary>
public abstract unsafe class FrozenT5GoldenTests : IDisposable
{
    // Activations reach 30 and every value is a sum of up to 64 float32 products through a dozen sublayers: some tens of eps (6e-8) times 30.
    // PyTorch's float32 is itself this far from its float64.
    private const double HiddenTolerance = 4e-5;
    private const double LogitTolerance = 4e-5;

    private readonly MemoryCheckpoint _checkpoint = MemoryCheckpoint.Golden();
    private readonly FrozenT5 _model;
    private readonly PromptMemory _prompt;

    protected FrozenT5GoldenTests(ForwardEngine engine)
    {
        _model = FrozenT5.Load(_checkpoint, new FrozenT5Options { Threads = 2, Generation = engine });
        _prompt = new PromptMemory(_model.Device, 32, Goldens.Load("prompt").Floats, 10);
    }

    [Theory]
    [InlineData(TapeDetail.Blocks)]
    [InlineData(TapeDetail.Sublayers)]
    public void HiddenStatesOfEveryBlock(TapeDetail tape)
    {
        T5Batch batch = Batch(prompt: 0);
        EncodedBatch encoded = _model.Encode(batch, _prompt.Table, tape);
        DecodedBatch decoded = _model.Score(encoded, batch, tape);
        int encoderStep = tape == TapeDetail.Blocks ? 1 : 2, decoderStep = tape == TapeDetail.Blocks ? 1 : 3;
        Assert.Equal(2 * encoderStep + 1, encoded.Tape.Count);
        Assert.Equal(2 * decoderStep + 1, decoded.Tape.Count);
        double[] encoder = Goldens.Load("encoder_hidden").Doubles, decoder = Goldens.Load("decoder_hidden").Doubles;
        for (int i = 0; i < 4; i++)
        {
            Tensor e = i < 3 ? encoded.Tape[i * encoderStep] : encoded.Hidden;
            Tensor d = i < 3 ? decoded.Tape[i * decoderStep] : decoded.Hidden;
            int e0 = encoder.Length / 4 * i, d0 = decoder.Length / 4 * i;
            Goldens.Near(encoder.AsSpan(e0, encoder.Length / 4), PromptMemory.Floats(e), HiddenTolerance, $"encoder_hidden[{i}]");
            Goldens.Near(decoder.AsSpan(d0, decoder.Length / 4), PromptMemory.Floats(d), HiddenTolerance, $"decoder_hidden[{i}]");
        }
    }

    [Fact]
    public void LogitsAndLosses()
    {
        T5Batch batch = Batch(prompt: 0);
        DecodedBatch decoded = _model.Score(_model.Encode(batch, _prompt.Table), batch);
        Goldens.Near(Goldens.Load("logits64").Doubles, PromptMemory.Floats(decoded.Logits), LogitTolerance, "logits");
        Assert.Equal(Goldens.Load("labels").Ints, PromptMemory.Ints(decoded.Labels).ToArray());
        // A loss is the mean over 21 tokens of numbers near 7; an error of the logits goes in once.
        Assert.Equal(Goldens.Expected("loss64"), CrossEntropyLoss.Mean(_model, decoded), 1e-5);
        // A sum over the tokens, given by PyTorch in float32 only: 98 x eps x a few.
        Assert.Equal(Goldens.Expected("loss_label_smoothed_sum"), CrossEntropyLoss.LabelSmoothedSum(_model, decoded, 0.1), 1e-4);
    }

    [Fact]
    public void LongTextsUseTheFarBuckets()
    {
        var batch = new T5Batch();
        Npy ids = Goldens.Load("long_input_ids"), labels = Goldens.Load("long_labels");
        for (int b = 0; b < ids.Shape[0]; b++)
            batch.Add(ids.Ints.AsSpan(b * ids.Shape[1], ids.Shape[1]), labels.Ints.AsSpan(b * labels.Shape[1], labels.Shape[1]), prompt: 0);
        DecodedBatch decoded = _model.Score(_model.Encode(batch, _prompt.Table), batch);
        // PyTorch's figure is float32: 9 x eps x a few.
        Assert.Equal(Goldens.Expected("long_loss"), CrossEntropyLoss.Mean(_model, decoded), 1e-5);
    }

    [Fact]
    public void WithoutAPrompt()
    {
        T5Batch batch = Batch(prompt: -1);
        EncodedBatch encoded = _model.Encode(batch);
        // Real positions: at padding, which nothing reads, our own kernels leave zeros and ONNX Runtime what came out.
        double[] hidden = Goldens.Load("noprompt_encoder_last_hidden_state").Doubles;
        int row = encoded.SourceLength * _model.Config.DModel;
        for (int b = 0; b < batch.Count; b++)
        {
            int real = batch.InputIds(b).Length * _model.Config.DModel;
            Goldens.Near(hidden.AsSpan(b * row, real), PromptMemory.Floats(encoded.Hidden).Slice(b * row, real), HiddenTolerance, $"noprompt encoder, example {b}");
        }
        Goldens.Near(Goldens.Load("noprompt_logits").Doubles, PromptMemory.Floats(_model.Score(encoded, batch).Logits), LogitTolerance, "noprompt logits");
    }

    [Theory]
    [InlineData(0, "greedy_prompt")]
    [InlineData(-1, "greedy_noprompt")]
    public void GreedyTokensAndTheirLogits(int prompt, string golden)
    {
        Npy tokens = Goldens.Load(golden + "_tokens"), scores = Goldens.Load(golden + "_scores");
        int B = 4, V = 128, steps = 12;
        // Column 0 is decoder_start_token_id.
        Assert.Equal<int[]>([B, steps + 1], tokens.Shape);
        using IStepDecoder decoder = _model.StartDecoding(_model.Encode(Batch(prompt), prompt < 0 ? null : _prompt.Table));
        int[] next = new int[B];
        for (int t = 0; t < steps; t++)
        {
            float[] logits = decoder.DecodeNext(next).ToArray();
            for (int b = 0; b < B; b++)
            {
                double[] expected = scores.Shape[0] == steps
                    ? scores.Doubles[((t * B + b) * V)..((t * B + b + 1) * V)]
                    : scores.Doubles[((b * steps + t) * V)..((b * steps + t + 1) * V)];
                Goldens.Near(expected, logits.AsSpan(b * V, V), LogitTolerance, $"step {t}, row {b}");
                next[b] = Array.IndexOf(logits, logits.AsSpan(b * V, V).ToArray().Max(), b * V) - b * V;
                Assert.Equal(tokens.Ints[b * (steps + 1) + t + 1], next[b]);
            }
        }
    }

    [Fact]
    public void PositionBiasAndBuckets()
    {
        foreach ((string stack, string golden, bool bidirectional) in ((string, string, bool)[])[("encoder", "encoder_position_bias", true), ("decoder", "decoder_position_bias", false)])
        {
            Npy expected = Goldens.Load(golden);
            int length = expected.Shape[^1];
            using DeviceBuffer bias = _model.Device.Allocate(DType.F32, 4L * length * length, "bias");
            using DeviceBuffer table = _model.Device.Allocate(DType.F32, 32 * 4, "table");
            _checkpoint.Floats($"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight").CopyTo(new Span<float>((void*)table.Tensor.Address, 128));
            RelativePositionBias.Forward(_model.Device, table.Tensor, bias.Tensor, 32, 4, length, length, bidirectional, 128);
            // A lookup: exact.
            Assert.Equal(expected.Floats, PromptMemory.Floats(bias.Tensor).ToArray());
        }
        int[] buckets = Goldens.Load("relative_buckets").Ints;
        for (int i = 0; i < 521; i++)
        {
            Assert.Equal(buckets[521 + i], RelativePositionBias.Bucket(buckets[i], true, 32, 128));
            Assert.Equal(buckets[1042 + i], RelativePositionBias.Bucket(buckets[i], false, 32, 128));
        }
    }

    [Fact]
    public void HalfWeightsAreExpandedOnceAndCounted()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Golden("model_bf16.safetensors");
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Generation = ForwardEngine.Ort });
        Assert.Equal(0, model.ExpandedBytes);
        T5Batch batch = Batch(prompt: 0);
        using var prompt = new PromptMemory(model.Device, 32, Goldens.Load("prompt").Floats, 10);
        DecodedBatch decoded = model.Score(model.Encode(batch, prompt.Table), batch);
        long expanded = model.ExpandedBytes;
        // All but the embedding (128 x 32), whose rows are widened as they are read.
        Assert.Equal(T5Parameters.Of(model.Config).Sum(p => p.Shape.Elements) * 4 - 128 * 32 * 4, expanded);
        model.Score(model.Encode(batch, prompt.Table), batch);
        Assert.Equal(expanded, model.ExpandedBytes);
        // bf16 keeps 8 bits of each weight: relative 2^-9, on logits of 26 through a dozen sublayers.
        Goldens.Near(Goldens.Load("logits64").Doubles, PromptMemory.Floats(decoded.Logits), 1.5, "bf16 logits");
        Assert.Equal(0, _model.ExpandedBytes);
    }

    public void Dispose()
    {
        _prompt.Dispose();
        _model.Dispose();
        _checkpoint.Dispose();
        GC.SuppressFinalize(this);
    }

    private static T5Batch Batch(int prompt)
    {
        var batch = new T5Batch();
        int[] ids = Goldens.Load("input_ids").Ints, mask = Goldens.Load("attention_mask").Ints, labels = Goldens.Load("labels").Ints;
        for (int b = 0; b < 4; b++)
            batch.Add(ids.AsSpan(b * 24, mask.AsSpan(b * 24, 24).Count(1)), labels.AsSpan(b * 7, 7), prompt);
        return batch;
    }
}
