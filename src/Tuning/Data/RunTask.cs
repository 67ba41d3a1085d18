// A run's task options as data: the bridge from RunConfig to TaskData and EncodedExamples. Deliberately no reading of its own.
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Data;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Data;

/// <summary>One task of a run: its text, and its splits as token ids.</summary>
/// <param name="Config">The task's options.</param>
/// <param name="Data">Its examples.</param>
public sealed record RunTask(TaskConfig Config, TaskData Data)
{
    /// <summary>Reads a task.</summary>
    /// <param name="config">The task's options.</param>
    /// <returns>The task, under the name that the run gives it.</returns>
    /// <exception cref="ArgumentException">As <see cref="TaskData.Load"/>.</exception>
    /// <exception cref="InvalidDataException">As <see cref="TaskData.Load"/>.</exception>
    /// <exception cref="IOException">As <see cref="TaskData.Load"/>.</exception>
    public static RunTask Load(TaskConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return new RunTask(config, TaskData.Load(new TaskSource
        {
            Task = config.DisplayName,
            Data = config.Data,
            TrainFile = config.Train,
            DevFile = config.Dev,
            TestFile = config.Test,
            Shots = config.Shots,
            Seed = config.Seed,
            InputTemplate = config.InputTemplate,
            TargetTemplate = config.TargetTemplate,
            Casting = config.Casting,
            Metrics = config.Metric,
            Labels = config.Labels,
            IsClassification = config.Classification,
        }));
    }

    /// <summary>How the run's options have this task encoded.</summary>
    /// <param name="training">The limits.</param>
    /// <returns>The options.</returns>
    public EncodingOptions Encoding(TrainingConfig training)
    {
        ArgumentNullException.ThrowIfNull(training);
        return new EncodingOptions { TaskPrefix = Config.TaskPrefix, Sentinel = Config.Sentinel, MaxSourceLength = training.MaxSourceLength, MaxTargetLength = training.MaxTargetLength };
    }

    /// <summary>Encodes a split, cut to the task's own limit of examples.</summary>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="split">train, dev or test.</param>
    /// <param name="training">The limits of length.</param>
    /// <returns>The examples; null where the task has none of that split.</returns>
    /// <exception cref="ArgumentException">There is no split of that name, or a limit is impossible.</exception>
    public EncodedExamples? Encode(T5Tokenizer tokenizer, string split, TrainingConfig training)
    {
        (IReadOnlyList<TaskExample> examples, int? limit) = split switch
        {
            "train" => (Data.Train, Config.TrainLimit),
            "dev" => (Data.Dev, Config.DevLimit),
            "test" => (Data.Test, Config.TestLimit),
            _ => throw new ArgumentException($"Split \"{split}\" is unknown; expected train, dev or test.", nameof(split)),
        };
        return examples.Count == 0 ? null : EncodedExamples.Encode(tokenizer, Data, split, Encoding(training), limit);
    }
}
