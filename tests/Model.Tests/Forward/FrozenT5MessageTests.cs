using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using Xunit;

namespace IptNative.Model.Tests.Forward;

/// <summary>What a caller reads when something does not fit.</summary>
public sealed class FrozenT5MessageTests : IDisposable
{
    private readonly MemoryCheckpoint _checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead, seed: 1);
    private readonly FrozenT5 _model;
    private readonly T5Batch _batch = new();

    public FrozenT5MessageTests() => _model = FrozenT5.Load(_checkpoint);

    [Theory]
    [InlineData(53)]
    [InlineData(-1)]
    [InlineData(-100)]
    [InlineData(int.MaxValue)]
    public void IdOutsideTheVocabulary(int id)
    {
        _batch.Add([1]);
        _batch.Add([4, id]);
        Fails($"input 1 of example 1 is {id}, expected 0 to vocab_size - 1 = 52", () => _model.Encode(_batch));
    }

    [Fact]
    public void LabelOutsideTheVocabulary()
    {
        _batch.Add([1], [5, -1]);
        EncodedBatch encoded = _model.Encode(_batch);
        Fails("label 1 of example 0 is -1, expected 0 to vocab_size - 1 = 52", () => _model.Score(encoded, _batch));
    }

    [Fact]
    public void NothingToEncode()
    {
        Fails("found no examples", () => _model.Encode(_batch));
        _batch.Add([]);
        Fails("example 0 has neither tokens nor a prompt", () => _model.Encode(_batch));
    }

    [Fact]
    public void PromptsThatDoNotFit()
    {
        _batch.Add([1], prompt: 1);
        Fails("example 0 wants prompt 1, found 0 prompts", () => _model.Encode(_batch));
        using var one = new PromptMemory(_model.Device, 17, new float[34], 2);
        Fails("example 0 wants prompt 1, found 1 prompts", () => _model.Encode(_batch, one.Table));
        using var wide = new PromptMemory(_model.Device, 19, new float[38], 1, 1);
        Fails("the prompts are 19 wide, the model's d_model is 17", () => _model.Encode(_batch, wide.Table));
        using DeviceBuffer values = _model.Device.Allocate(DType.F32, 33, "prompt");
        Fails("found 33 values of f32, expected f32 [2, 17]", () => new PromptTable(values.Tensor, 17, 2));
    }

    [Fact]
    public void LabelsAndBatchMustFit()
    {
        _batch.Add([1]);
        EncodedBatch encoded = _model.Encode(_batch);
        Fails("found no labels", () => _model.Score(encoded, _batch));
        _batch.Add([1], [2]);
        Fails("found 2 examples, expected the 1 that were encoded", () => _model.Score(encoded, _batch));
    }

    [Fact]
    public void AllLabelsIgnoredHaveNoMean()
    {
        _batch.Add([1], [-100, -100]);
        DecodedBatch decoded = _model.Score(_model.Encode(_batch), _batch);
        Fails("all 2 labels are -100", () => CrossEntropyLoss.Mean(_model, decoded));
        Assert.Equal(0, CrossEntropyLoss.LabelSmoothedSum(_model, decoded, 0.1));
    }

    [Fact]
    public void StepsNameWhatTheyWereGiven()
    {
        _batch.Add([1, 2]);
        using IStepDecoder decoder = _model.StartDecoding(_model.Encode(_batch), 2);
        Fails("found 1 tokens, expected one for each of 2 rows", () => decoder.DecodeNext([0]).Length);
        Fails("found token 53, expected 0 to vocab_size - 1 = 52", () => decoder.DecodeNext([0, 53]).Length);
        Fails("row 0 goes on from row 2, expected 0 to 1", () => Reorder(decoder, 2));
        Fails("found no rows", () => Reorder(decoder));

        static int Reorder(IStepDecoder decoder, params int[] sources)
        {
            decoder.Reorder(sources);
            return decoder.Rows;
        }
    }

    [Fact]
    public void ImpossibleBucketsAreRefusedAtLoad()
    {
        using MemoryCheckpoint checkpoint = MemoryCheckpoint.Random(OddShapes.OneHead with { RelativeAttentionNumBuckets = 2 }, seed: 1);
        Fails("buckets", () => FrozenT5.Load(checkpoint));
    }

    public void Dispose()
    {
        _model.Dispose();
        _checkpoint.Dispose();
    }

    private static void Fails<T>(string message, Func<T> act) =>
        Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(() => { act(); }).Message, StringComparison.Ordinal);
}
