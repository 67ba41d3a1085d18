// The frozen model of an experiment with what its jobs need of it: passes, evaluator, tokenised samples. Deliberately not: any training.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;
using Engine = IptNative.Model.Backward.ForwardEngine;

namespace IptNative.Tuning.Ipt;

/// <summary>Opened once per experiment.</summary>
internal sealed class IptModel : IDisposable
{
    /// <summary>Of what a checkpoint remembers: see <see cref="Plan"/>.</summary>
    public const string PlanKey = "activation_plan";

    private readonly ExperimentData _data;
    private readonly bool _taskPrefix;
    private readonly DType _tape;
    private readonly Dictionary<(TaskSample Sample, string Split, EncodingOptions Options), EncodedExamples> _encoded = [];

    /// <param name="config">The experiment.</param>
    /// <param name="data">Its tasks.</param>
    /// <param name="open">Makes the device in place of the options; null normally.</param>
    public IptModel(ExperimentConfig config, ExperimentData data, Func<ComputeDevice>? open = null)
    {
        (_data, _taskPrefix) = (data, config.Data.TaskPrefix);
        Checkpoint = Checkpoint.Open(config.Model);
        Tokenizer = T5Tokenizer.Load(Checkpoint.FolderOf(config.Model), Checkpoint.Config.VocabSize);
        // Whoever asked for auto was told what it comes to: DeviceChoice.Fallback.
        Device = RunSettings.Open(config.Device, config.Threads, config.Compute, _ => { }, open);
        _tape = config.Tape == TapeType.BF16 ? DType.BF16 : DType.F32;
        // No spinning: its idle threads would take the cores from our own kernels between two passes.
        Frozen = FrozenT5.Load(Checkpoint, new FrozenT5Options { Threads = config.Threads, Device = Device, Compute = RunSettings.Answering(Device, config.Compute), AllowSpinning = false });
        Evaluator = new Evaluator(Frozen, Tokenizer);
        Identity = ModelIdentity.Of(Checkpoint);
        Evaluation = RunSettings.Of(config.Evaluation);
    }

    public Checkpoint Checkpoint { get; }

    public T5Tokenizer Tokenizer { get; }

    public ComputeDevice Device { get; }

    public FrozenT5 Frozen { get; }

    public Evaluator Evaluator { get; }

    public EvaluationOptions Evaluation { get; }

    public ModelIdentity Identity { get; }

    public int DModel => Checkpoint.Config.DModel;

    /// <summary>How a step of a batch is cut: as a stopped process cut it, or anew from the free memory.</summary>
    public StepPlan Plan(TrainingConfig training, TrainingState? state) =>
        RunSettings.Plan(Checkpoint, Frozen, Device, Engine.Native, null, training.MicroBatchSize, state is not null && state.Extra.TryGetValue(PlanKey, out string? text) ? text : null);

    /// <summary>Forward and backward for one batch of jobs: native kernels, whose packed rows pad nothing where tasks of all lengths are mixed.</summary>
    public GradientPass Pass(LossConfig loss, StepPlan plan) => RunSettings.Pass(Checkpoint, Frozen, Device, loss, plan, _tape);

    /// <summary>A split of a sample as tokens, cut as a method's section says.</summary>
    public EncodedExamples Encode(TaskSample sample, string split, TrainingConfig training, bool? taskPrefix = null)
    {
        var options = new EncodingOptions { TaskPrefix = taskPrefix ?? _taskPrefix, MaxSourceLength = training.MaxSourceLength, MaxTargetLength = training.MaxTargetLength };
        if (_encoded.TryGetValue((sample, split, options), out EncodedExamples? known))
            return known;
        (CrossFitTask task, GymTask gym) = (_data.Load(sample), _data.Task(sample.Task));
        IReadOnlyList<TaskExample> examples = split switch { "train" => task.Train, "dev" => task.Dev, _ => task.Test };
        return _encoded[(sample, split, options)] = EncodedExamples.Encode(Tokenizer, gym.Name, examples, options, [gym.Metric], gym.Labels);
    }

    public void Dispose()
    {
        Frozen.Dispose();
        Device.Dispose();
        Checkpoint.Dispose();
    }
}
