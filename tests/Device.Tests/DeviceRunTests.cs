// Whole runs of `train` whose steps are computed on a device with memory of its own: the same losses as on the CPU, whatever is tuned; what a device that is
// too small says, and that nothing is lost when its memory ends on the way.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceRunTests : IDisposable
{
    private readonly SmallModel _model = new();

    public static TheoryData<string, string> Methods => new()
    {
        { "prompt_tuning", "\"method\": \"prompt_tuning\", \"optimizer\": { \"clip_norm\": 1 }" },
        { "p_tuning", "\"method\": \"p_tuning\", \"p_tuning\": { \"hidden\": 5, \"layers\": 1 }, \"optimizer\": { \"name\": \"adamw\", \"learning_rate\": 0.01 }" },
        { "ist", "\"method\": \"ist\", \"ist\": { \"subspace\": \"SUBSPACE\" }, \"optimizer\": { \"name\": \"adamw\", \"learning_rate\": 0.05 }" },
    };

    [Theory]
    [MemberData(nameof(Methods))]
    public void ItsLossesAreTheCpus(string method, string options)
    {
        if (method == "ist")
            options = options.Replace("SUBSPACE", SmallModel.Escaped(Subspace()), StringComparison.Ordinal);
        var here = new Heard();
        var there = new Heard();
        var notes = new List<string>();
        TrainRun.Execute(_model.Run("here", options), false, here, _ => { }, TestContext.Current.CancellationToken);
        TrainRunReport report = TrainRun.ExecuteOn(() => HostAcceleratorDevice.Create(), _model.Run("there", options), false, there, notes.Add, TestContext.Current.CancellationToken);
        Assert.Equal(StopReason.Steps, report.Outcomes[0].Stopped);
        Assert.Equal(3, there.Steps.Count);
        for (int i = 0; i < here.Steps.Count; i++)
        {
            // float32 in another order; the optimizers' roots and divisions pass it on from step to step.
            Assert.Equal(here.Steps[i].Loss, there.Steps[i].Loss, 1e-4 * here.Steps[i].Loss);
            Assert.Equal(here.Steps[i].GradientNorm, there.Steps[i].GradientNorm, 1e-3 * here.Steps[i].GradientNorm);
        }
        // Answers are generated there too.
        Assert.Equal(here.Evaluations.Select(e => e.Step), there.Evaluations.Select(e => e.Step));
        Assert.Contains(notes, n => n.StartsWith("memory plan for ilgpu, ", StringComparison.Ordinal) && n.EndsWith("; 64 answers at once.", StringComparison.Ordinal));
        Assert.True(Directory.Exists(Path.Combine(_model.Folder, "there", "best")));
    }

    /// <summary>What was taken before is given back, and the largest pieces are named.</summary>
    [Fact]
    public void WeightsThatDoNotFitAreNamed()
    {
        using Checkpoint checkpoint = MemoryCheckpoint.Random(OddShapes.WideHeads, seed: 5);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = 1 });
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create(memory: 9000);
        var e = Assert.Throws<InsufficientMemoryException>(() => new GradientPass(checkpoint, model, new GradientOptions { Device = device, Forward = Model.Backward.ForwardEngine.Native }));
        Assert.Matches(@"^(encoder|decoder)\.block\.\d\.layer\.\d\.\S+\.weight: taking \d+ bytes on ilgpu failed; \d+ of 9000 bytes are free\. Largest so far: encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight 2048 bytes, .*Use a smaller batch", e.Message);
        Assert.Equal(9000, device.FreeBytes);
    }

    [Fact]
    public void ADeviceThatIsTooSmallIsRefusedWithWhatWouldFit()
    {
        var e = Assert.Throws<InsufficientMemoryException>(() => TrainRun.ExecuteOn(() => HostAcceleratorDevice.Create(memory: 250_000_000), _model.Run("small"), false, new Heard(), _ => { }, TestContext.Current.CancellationToken));
        Assert.StartsWith("a step does not fit into 250 MB of ilgpu: weights on ilgpu, native forward, blocks activations, 1 example at once: ", e.Message, StringComparison.Ordinal);
        Assert.Contains("use shorter inputs, a device with more memory, or --device cpu", e.Message, StringComparison.Ordinal);
        // Nothing that a second try would stumble over.
        Assert.False(File.Exists(Path.Combine(_model.Folder, "small", RunManifest.FileName)));
    }

    /// <summary>The run stands where the last finished step left it and goes on, on another device.</summary>
    [Fact]
    public void MemoryThatEndsOnTheWayLosesNothing()
    {
        HostAcceleratorDevice? device = null;
        var heard = new Heard { OnStep = step => { if (step == 2) device!.Memory = 0; } };
        // Nothing is evaluated, and a longer answer than the first steps' needs more memory: whatever is asked for next is refused.
        RunConfig config = _model.Run("ends", overrides: ["training.eval_every=9", "training.steps=4", "training.length_buckets=false", "training.max_source_length=64"]);
        var e = Assert.Throws<InsufficientMemoryException>(() => TrainRun.ExecuteOn(() => device = HostAcceleratorDevice.Create(), config, false, heard, _ => { }, TestContext.Current.CancellationToken));
        Assert.Matches(@"^after step 2: .+: taking \d+ bytes on ilgpu failed; .+Largest so far: \S+.* Nothing is lost: the same command with --resume goes on from here", e.Message);
        var again = new Heard();
        TrainRunReport report = TrainRun.ExecuteOn(() => HostAcceleratorDevice.Create(), config, true, again, _ => { }, TestContext.Current.CancellationToken);
        Assert.Equal(StopReason.Steps, report.Outcomes[0].Stopped);
        Assert.Equal(2, again.Steps.Count);
    }

    [Theory]
    [InlineData("weights=streamed", "weights is streamed, which only the host does", "Set it to auto; a checkpoint exported with --dtype bf16, int8 or int4 takes less.")]
    [InlineData("spill=/tmp", "spill names a folder for what the host cannot hold", "Set it to null; \"activations\": \"blocks\", \"tape\": \"bf16\" or a smaller training.micro_batch_size keep less.")]
    public void WhatAGpuCannotDoIsAnErrorInTheOptions(string option, string expected, string instead)
    {
        var e = Assert.Throws<InvalidDataException>(() => _model.Run("x", overrides: ["device=cuda:0", option]));
        Assert.Contains($"device is \"cuda:0\" and {expected}, expected none of it with a GPU. {instead} Or set \"device\": \"cpu\".", e.Message, StringComparison.Ordinal);
    }

    public void Dispose() => _model.Dispose();

    private string Subspace()
    {
        string path = Path.Combine(_model.Folder, "subspace.safetensors");
        using Checkpoint checkpoint = Checkpoint.Open(_model.Model);
        // Made and written on a device, read on the CPU and on a device.
        using ComputeDevice device = HostAcceleratorDevice.Create();
        using AutoencoderSubspace subspace = AutoencoderSubspace.Create(device, new SubspaceHeader { Kind = SubspaceKind.Autoencoder, PromptLength = 3, DModel = 16, IntrinsicDim = 2, InnerDim = 4, Model = ModelIdentity.Of(checkpoint) }, 0);
        subspace.Save(path);
        return path;
    }
}
